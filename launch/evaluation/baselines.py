"""Classical restorations that a trained network is compared with: nothing, a blur, non-local means, BM3D."""

import math
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means

from configs.errors import ConfigError, DataError, MachineError
from losses.common.noise_level import noise_level
from losses.metrics.psnr import psnr

Baseline = Literal["noisy", "gaussian", "nlm", "bm3d"]
Preset = Literal["tuned", "seed"]
Image = NDArray[np.float64]

BASELINES: tuple[str, ...] = get_args(Baseline)
WITH_SEED_PARAMETERS = ("nlm", "bm3d")
"""Those that the scripts of the TCFL reproduction have with fixed parameters."""

NLM_PATCH_PX, NLM_DISTANCE_PX, NLM_H_OVER_SIGMA = 5, 6, 0.7
"""Best mean PSNR over knee slices at sigma 0.1 and 0.04 and Set12 at sigma 25, of patches 3 to 7, distances 6 to 11,
h 0.4 to 1.0 sigma; all with sigma subtracted from the patch distances, which is worth 0.5 to 1 dB."""

BLURS_PX = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)
STRENGTHS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0)

NO_NOISE = 1e-6
"""Noise level, of the data range, below which an image is left as it is."""

SEED_SIGMA, SEED_NLM_H = 25 / 255, 10 / 255
"""Fixed noise level and filter strength of the scripts that came with the TCFL reproduction, of the data range."""


def restore(
    noisy: NDArray[np.generic],
    baseline: Baseline,
    *,
    data_range: float,
    sigma: float | None = None,
    strength: float = 1.0,
    blur_px: float | None = None,
    preset: Preset = "tuned",
) -> Image:
    """One noisy image, (H, W) or (H, W, C), restored by a method without training; the shape and units of the input.

    Complex images become magnitudes. `sigma`: noise standard deviation in the units of the image (per component where
    complex); None estimates it (`noise_level`). `strength` multiplies it, for noise that is not white.

    | baseline | what it does |
    |---|---|
    | noisy | nothing (the magnitude) |
    | gaussian | a blur of `blur_px`; None picks, for each image, the blur that Stein's unbiased estimate finds best |
    | nlm | non-local means, 5 px patches within 6 px, h = 0.7 sigma; colours share their weights |
    | bm3d | BM3D of the `bm3d` package, three channels in an opponent colour space; one thread, so repeatable |

    `preset="seed"` fixes the parameters of the published scripts instead: NLM with 5 px patches within 5 px, h = 10/255
    and no sigma; BM3D with sigma 25/255, DCT blocks of 8 px, thresholds 2.7, 2500 and 400.
    Raises ConfigError for another baseline, MachineError where the `bm3d` package is missing.
    """
    if baseline not in BASELINES:
        raise ConfigError(f"no baseline '{baseline}'; known: {', '.join(BASELINES)}")
    if noisy.ndim not in (2, 3):
        raise DataError(f"a baseline restores (height, width) or (height, width, C), but this image is {noisy.shape}")
    magnitude = np.asarray(np.abs(noisy) if np.iscomplexobj(noisy) else noisy, dtype=np.float64)
    if baseline == "noisy" or (baseline == "gaussian" and blur_px == 0):
        return magnitude.copy()
    if baseline == "gaussian" and blur_px is not None:
        return _blur(magnitude, blur_px)
    level = strength * (noise_level(noisy) if sigma is None else sigma)
    if preset == "seed":
        level = SEED_SIGMA * data_range
    if level <= NO_NOISE * data_range:
        return magnitude.copy()
    if baseline == "gaussian":
        return _blur(magnitude, best_blur_px(magnitude, level))
    unit = magnitude / data_range
    restored = (_nlm if baseline == "nlm" else _bm3d)(unit, level / data_range, preset)
    return np.asarray(restored, dtype=np.float64) * data_range


def best_blur_px(noisy: Image, sigma: float) -> float:
    """The blur of least estimated squared error, without the clean image, for white noise of standard deviation sigma.

    Stein's unbiased risk estimate of a linear filter G with centre tap g: mean (y - Gy)**2 + 2 g sigma**2 - sigma**2.
    """
    centre = np.zeros((65, 65))
    centre[32, 32] = 1.0
    risks = {0.0: sigma**2}
    for blur_px in BLURS_PX:
        tap = float(_blur(centre, blur_px)[32, 32])
        risks[blur_px] = float(np.mean((noisy - _blur(noisy, blur_px)) ** 2)) + (2 * tap - 1) * sigma**2
    return min(risks, key=lambda blur_px: risks[blur_px])


def tune(
    pairs: Iterable[tuple[NDArray[np.generic], NDArray[np.generic]]], baseline: Baseline, *, data_range: float
) -> dict[str, float]:
    """Arguments for `restore` with the best mean PSNR over (noisy, clean) pairs: `blur_px`, or `strength`, or none.

    Give it training images only. Walks up the list of values and stops when two in a row are worse than the best, so
    that a slow method is not run far beyond it.
    """
    if baseline == "noisy":
        return {}
    argument, values = ("blur_px", BLURS_PX) if baseline == "gaussian" else ("strength", STRENGTHS)
    images = list(pairs)
    if not images:
        raise DataError(f"no training pair with a clean image to tune the baseline '{baseline}' on")
    best, best_score, worse = values[0], -math.inf, 0
    for value in values:
        options: dict[str, Any] = {argument: value}
        scores = [
            psnr(restore(noisy, baseline, data_range=data_range, **options), np.abs(clean), data_range=data_range)
            for noisy, clean in images
        ]
        score = float(np.mean(scores))
        best, best_score, worse = (value, score, 0) if score > best_score else (best, best_score, worse + 1)
        if worse == 2:
            break
    return {argument: best}


def _blur(image: Image, blur_px: float) -> Image:
    return np.asarray(gaussian_filter(image, (blur_px, blur_px, 0)[: image.ndim]), dtype=np.float64)


def _nlm(unit: Image, sigma: float, preset: Preset) -> Any:
    seed = preset == "seed"
    return denoise_nl_means(
        unit,
        patch_size=NLM_PATCH_PX,
        patch_distance=NLM_PATCH_PX if seed else NLM_DISTANCE_PX,
        h=SEED_NLM_H if seed else NLM_H_OVER_SIGMA * sigma,
        sigma=0.0 if seed else sigma,
        fast_mode=True,
        channel_axis=-1 if unit.ndim == 3 else None,
    )


def _bm3d(unit: Image, sigma: float, preset: Preset) -> Any:
    try:
        import bm3d
    except ImportError as error:
        raise MachineError(
            "the baseline bm3d needs the package 'bm3d' (its licence allows non-commercial use only): pip install bm3d"
        ) from error
    profile = bm3d.BM3DProfile()
    profile.num_threads = 1
    if preset == "seed":
        profile.transform_2d_ht_name = profile.transform_3rd_dim_name = "dct"
        profile.lambda_thr3d, profile.tau_match, profile.tau_match_wiener = 2.7, 2500, 400
    if unit.ndim == 3 and unit.shape[2] == 3:
        return bm3d.bm3d_rgb(unit, sigma, profile)
    planes = [unit] if unit.ndim == 2 else [unit[..., c] for c in range(unit.shape[2])]
    restored = [bm3d.bm3d(np.ascontiguousarray(plane), sigma, profile) for plane in planes]
    return restored[0] if unit.ndim == 2 else np.stack(restored, axis=-1)
