"""Classical denoising to compare a trained network with: Gaussian blur, non-local means, BM3D, and none at all."""

import math
from collections.abc import Iterable
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means

from configs.baseline_names import BASELINES, Baseline, Preset
from configs.errors import ConfigError, DataError, MachineError
from losses.common.noise_level import noise_level
from losses.metrics.common.images import Image
from losses.metrics.psnr import psnr

HAVE_PUBLISHED_PARAMETERS: tuple[Baseline, ...] = ("nlm", "bm3d")
"""The baselines that the scripts published with TCFL run, with fixed parameters."""

PUBLISHED_SIGMA, PUBLISHED_NLM_H = 25 / 255, 10 / 255
"""Noise level and filter strength in the scripts published with TCFL, as fractions of the data range."""

NLM_PATCH_PX, NLM_DISTANCE_PX, NLM_H_OVER_SIGMA = 5, 6, 0.7
"""The best mean PSNR on knee slices (sigma 0.1 and 0.04) and Set12 (sigma 25), searched over patches of 3 to 7 px,
distances of 6 to 11 px and h of 0.4 to 1.0 sigma. Sigma is subtracted from the patch distances throughout, which is
worth 0.5 to 1 dB."""

BLURS_PX = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)
STRENGTHS = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0)
"""The values that `tune` searches."""

NO_NOISE = 1e-6
"""Noise level, as a fraction of the data range, below which an image is returned unchanged."""


class BaselineOptions(TypedDict, total=False):
    """The arguments of `restore` that `tune` or a preset chooses."""

    blur_px: float
    strength: float
    preset: Preset


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
    """Denoise one image by a method that needs no training.

    | baseline | method |
    |---|---|
    | noisy | none: the image itself (its magnitude) |
    | gaussian | Gaussian blur of `blur_px`; without it, the blur that Stein's unbiased risk estimate prefers |
    | nlm | non-local means (Buades et al., CVPR 2005): 5 px patches within 6 px, h = 0.7 sigma, joint over channels |
    | bm3d | BM3D (Dabov et al., TIP 2007) from the `bm3d` package; three channels in an opponent colour space |

    BM3D runs on one thread, so that its results are reproducible.

    Args:
        noisy: (H, W) or (H, W, C), real or complex; complex images become magnitudes.
        baseline: One of the names above.
        data_range: Range of the values, in the units of the image.
        sigma: Standard deviation of the noise in the units of the image, per component for complex images; None
            estimates it from the image (`losses.common.noise_level`).
        strength: Factor on sigma, for noise that is not white.
        blur_px: Standard deviation of the Gaussian blur in pixels.
        preset: "published" ignores sigma and strength and takes the fixed parameters of the scripts published with
            TCFL. NLM: 5 px patches within 5 px, h = 10/255. BM3D: sigma 25/255, DCT blocks of 8 px, thresholds 2.7,
            2500 and 400.

    Returns:
        float64, in the shape and units of the input.

    Raises:
        ConfigError: Unknown baseline.
        DataError: The image is not (H, W) or (H, W, C).
        MachineError: The `bm3d` package is not installed.
    """
    if baseline not in BASELINES:
        raise ConfigError(f"unknown baseline '{baseline}'; known: {', '.join(BASELINES)}")
    if noisy.ndim not in (2, 3):
        raise DataError(f"expected an image of shape (H, W) or (H, W, C) for baseline '{baseline}', got {noisy.shape}")
    magnitude = np.asarray(np.abs(noisy) if np.iscomplexobj(noisy) else noisy, dtype=np.float64)
    if baseline == "noisy" or (baseline == "gaussian" and blur_px == 0):
        return magnitude.copy()
    if baseline == "gaussian" and blur_px is not None:
        return _blur(magnitude, blur_px)
    level = strength * (noise_level(noisy) if sigma is None else sigma)
    if preset == "published":
        level = PUBLISHED_SIGMA * data_range
    if level <= NO_NOISE * data_range:
        return magnitude.copy()
    if baseline == "gaussian":
        return _blur(magnitude, best_blur_px(magnitude, level))
    denoise = _nlm if baseline == "nlm" else _bm3d
    return denoise(magnitude / data_range, level / data_range, preset) * data_range


def best_blur_px(noisy: Image, sigma: float) -> float:
    """The Gaussian blur of least estimated squared error for white noise of standard deviation sigma.

    Needs no clean image: Stein's unbiased risk estimate (Annals of Statistics, 1981) of a linear filter G with centre
    tap g is mean((y - Gy)**2) + 2 g sigma**2 - sigma**2.
    """
    impulse = np.zeros((65, 65))
    impulse[32, 32] = 1.0
    risks = {0.0: sigma**2}
    for blur_px in BLURS_PX:
        centre_tap = float(_blur(impulse, blur_px)[32, 32])
        residual = float(np.mean((noisy - _blur(noisy, blur_px)) ** 2))
        risks[blur_px] = residual + (2 * centre_tap - 1) * sigma**2
    return min(risks, key=lambda blur_px: risks[blur_px])


def tune(
    pairs: Iterable[tuple[NDArray[np.generic], NDArray[np.generic]]], baseline: Baseline, *, data_range: float
) -> BaselineOptions:
    """Choose a baseline's blur or strength by the mean PSNR over (noisy, clean) pairs.

    The values are tried in ascending order until two in a row are worse than the best, so that slow methods are not run
    far beyond their optimum.

    Args:
        pairs: Images of the training split; tuning on test images would flatter the baseline.
        baseline: Its name.
        data_range: Range of the values, in the units of the images.

    Returns:
        Arguments for `restore`; empty for "noisy", which has none.

    Raises:
        DataError: There are no pairs.
    """
    if baseline == "noisy":
        return {}
    images = list(pairs)
    if not images:
        raise DataError(f"no training pair with a clean image to tune the baseline '{baseline}' on")
    candidates: list[BaselineOptions] = (
        [{"blur_px": blur_px} for blur_px in BLURS_PX]
        if baseline == "gaussian"
        else [{"strength": strength} for strength in STRENGTHS]
    )
    best, best_score, worse_in_a_row = candidates[0], -math.inf, 0
    for options in candidates:
        scores = [
            psnr(restore(noisy, baseline, data_range=data_range, **options), np.abs(clean), data_range=data_range)
            for noisy, clean in images
        ]
        score = float(np.mean(scores))
        if score > best_score:
            best, best_score, worse_in_a_row = options, score, 0
        else:
            worse_in_a_row += 1
        if worse_in_a_row == 2:
            break
    return best


def _blur(image: Image, blur_px: float) -> Image:
    """Blur height and width, not the channels."""
    return np.asarray(gaussian_filter(image, (blur_px, blur_px, 0)[: image.ndim]), dtype=np.float64)


def _nlm(image: Image, sigma: float, preset: Preset) -> Image:
    """Non-local means of an image with a data range of 1."""
    published = preset == "published"
    restored = denoise_nl_means(
        image,
        patch_size=NLM_PATCH_PX,
        patch_distance=NLM_PATCH_PX if published else NLM_DISTANCE_PX,
        h=PUBLISHED_NLM_H if published else NLM_H_OVER_SIGMA * sigma,
        sigma=0.0 if published else sigma,
        fast_mode=True,
        channel_axis=-1 if image.ndim == 3 else None,
    )
    return np.asarray(restored, dtype=np.float64)


def _bm3d(image: Image, sigma: float, preset: Preset) -> Image:
    """BM3D of an image with a data range of 1."""
    try:
        import bm3d
    except ImportError as error:
        raise MachineError(
            "the baseline 'bm3d' needs the package 'bm3d', whose licence allows non-commercial use only: "
            "pip install bm3d"
        ) from error
    profile = bm3d.BM3DProfile()
    profile.num_threads = 1
    if preset == "published":
        profile.transform_2d_ht_name = profile.transform_3rd_dim_name = "dct"
        profile.lambda_thr3d, profile.tau_match, profile.tau_match_wiener = 2.7, 2500, 400
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(bm3d.bm3d_rgb(image, sigma, profile), dtype=np.float64)
    planes = [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[2])]
    restored = [bm3d.bm3d(np.ascontiguousarray(plane), sigma, profile) for plane in planes]
    return np.asarray(restored[0] if image.ndim == 2 else np.stack(restored, axis=-1), dtype=np.float64)
