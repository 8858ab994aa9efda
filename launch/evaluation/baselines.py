"""Classical denoising to compare a trained network with: Gaussian blur, non-local means, BM3D, and none at all."""

import threading
from dataclasses import replace
from functools import partial
from typing import TypedDict
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_nl_means

from quell.configs.baseline_names import BASELINES, Baseline, Preset
from quell.configs.errors import ConfigError, DataError, MachineError
from quell.losses.common.noise_level import noise_level
from quell.losses.metrics.common.images import Image
from quell.losses.noise.model import FieldNoise

HAVE_PUBLISHED_PARAMETERS: tuple[Baseline, ...] = ("nlm", "bm3d")
"""The baselines that the scripts published with TCFL run, with fixed parameters."""

PUBLISHED_SIGMA, PUBLISHED_NLM_H = 25 / 255, 10 / 255
"""Noise level and filter strength in the scripts published with TCFL, as fractions of the data range."""

NLM_PATCH_PX, NLM_DISTANCE_PX, NLM_H_OVER_SIGMA = 5, 6, 0.7
"""The best mean PSNR on knee slices (sigma 0.1 and 0.04) and Set12 (sigma 25), searched over patches of 3 to 7 px,
distances of 6 to 11 px and h of 0.4 to 1.0 sigma. Sigma is subtracted from the patch distances throughout, which is
worth 0.5 to 1 dB."""

BLURS_PX = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)
"""The blurs among which `best_blur_px` chooses."""

SMALLEST_LEVEL = 0.05
"""Share of the largest noise level below which a map is cut off before an image is divided by it."""

_PATCHED = threading.Lock()

NO_NOISE = 1e-6
"""Noise level, as a fraction of the data range, below which an image is returned unchanged."""


class BaselineOptions(TypedDict, total=False):
    """The arguments of `restore` that tuning (baseline_tuning.py) or a preset chooses."""

    blur_px: float
    strength: float
    preset: Preset


def restore(
    noisy: NDArray[np.generic],
    baseline: Baseline,
    *,
    data_range: float,
    sigma: float | None = None,
    noise: FieldNoise | None = None,
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

    BM3D runs on one thread, so that its results are reproducible. Of correlated `noise`, BM3D takes the spectrum, and
    NLM, which has no place for one, the level. An image whose noise varies is divided by the map and multiplied again.

    Args:
        noisy: (H, W) or (H, W, C), real or complex. The result is a magnitude: of the restored real and imaginary part
            where their noise is given, which is Gaussian in each; otherwise the magnitude is restored.
        baseline: One of the names above.
        data_range: Range of the values, in the units of the image.
        sigma: Standard deviation of the noise (of each complex part), in the units of the image; None estimates it.
        noise: What is known of the noise, in stored units: level, spectrum and map. Replaces sigma.
        strength: Factor on sigma.
        blur_px: Standard deviation of the blur in pixels.
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
    if noise is not None and np.iscomplexobj(noisy):
        known = partial(restore, data_range=data_range, noise=noise, strength=strength, preset=preset)
        return np.hypot(known(noisy.real, baseline), known(noisy.imag, baseline))
    told = _told(noisy, sigma, noise, strength) if preset == "tuned" else FieldNoise(PUBLISHED_SIGMA * data_range)
    if told.sigma <= NO_NOISE * data_range:
        return magnitude.copy()
    return _denoised(magnitude, baseline, told, data_range, preset)


def best_blur_px(noisy: Image, sigma: float, noise: FieldNoise | None = None) -> float:
    """The Gaussian blur of least estimated squared error for noise of standard deviation sigma.

    Needs no clean image: Stein's unbiased risk estimate (Annals of Statistics, 1981) of a linear filter of taps g_k is
    mean((y - Gy)**2) + 2 sigma**2 sum_k g_k c_k - sigma**2, where c_k is the noise's correlation at lag k: 1 at lag 0
    and, for white noise, 0 elsewhere.
    """
    size = 65
    impulse, correlation = np.zeros((size, size)), np.zeros((size, size))
    impulse[size // 2, size // 2] = correlation[size // 2, size // 2] = 1.0
    if noise is not None and noise.spectrum is not None:
        correlation = np.fft.fftshift(np.fft.ifft2(noise.spectrum_at(size, size)).real)
    risks = {0.0: sigma**2}
    for blur_px in BLURS_PX:
        covariance = float(np.sum(_blur(impulse, blur_px) * correlation))
        residual = float(np.mean((noisy - _blur(noisy, blur_px)) ** 2))
        risks[blur_px] = residual + (2 * covariance - 1) * sigma**2
    return min(risks, key=lambda blur_px: risks[blur_px])


def _denoised(image: Image, baseline: Baseline, noise: FieldNoise, data_range: float, preset: Preset) -> Image:
    """The image restored by a baseline that is told the noise."""
    if baseline == "gaussian":
        return _blur(image, best_blur_px(image, noise.sigma, noise))
    even = replace(noise, level_map=None, sigma=noise.sigma / data_range)
    relative = _relative_map(noise, image)
    denoise = _nlm if baseline == "nlm" else _bm3d
    return denoise(image / relative / data_range, even, preset) * data_range * relative


def _told(noisy: NDArray[np.generic], sigma: float | None, noise: FieldNoise | None, strength: float) -> FieldNoise:
    """The noise that a baseline assumes."""
    if noise is None:
        noise = FieldNoise(noise_level(noisy) if sigma is None else sigma)
    return replace(noise, sigma=strength * noise.sigma)


def _relative_map(noise: FieldNoise, image: Image) -> Image | float:
    """Standard deviation of the noise of every pixel over its root mean square, in the dimensions of the image."""
    if noise.level_map is None:
        return 1.0
    level = noise.map_at(image.shape[0], image.shape[1]) / noise.sigma
    smallest = SMALLEST_LEVEL * level.max()
    return np.maximum(level, smallest).reshape(level.shape + (1,) * (image.ndim - 2))


def _blur(image: Image, blur_px: float) -> Image:
    """Blur height and width, not the channels."""
    return np.asarray(gaussian_filter(image, (blur_px, blur_px, 0)[: image.ndim]), dtype=np.float64)


def _nlm(image: Image, noise: FieldNoise, preset: Preset) -> Image:
    """Non-local means of an image with a data range of 1."""
    published, sigma = preset == "published", noise.sigma
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


def _bm3d(image: Image, noise: FieldNoise, preset: Preset) -> Image:
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
    # what the package takes: a standard deviation, or the mean of |FFT(noise)|^2
    height, width = image.shape[:2]
    level: float | Image = noise.sigma
    if not noise.is_white:
        level = noise.spectrum_at(height, width) * noise.sigma**2 * height * width
    # the package's name for np.trapezoid, which numpy 2.4 removed; one thread at a time patches the module
    with _PATCHED, mock.patch.object(np, "trapz", np.trapezoid, create=True):
        if image.ndim == 3 and image.shape[2] == 3 and noise.is_white:
            return np.asarray(bm3d.bm3d_rgb(image, level, profile), dtype=np.float64)
        planes = [image] if image.ndim == 2 else [image[..., c] for c in range(image.shape[2])]
        restored = [bm3d.bm3d(np.ascontiguousarray(plane), level, profile) for plane in planes]
    return np.asarray(restored[0] if image.ndim == 2 else np.stack(restored, axis=-1), dtype=np.float64)
