"""Noise standard deviation, estimated from a noisy image alone."""

import math

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.configs.errors import DataError
from quell.losses.common.order_statistics import medians
from quell.losses.common.separable_filters import filtered, mirrored

WAVELET = "bior4.4"
MAD_OF_UNIT_NORMAL = 0.6745
"""Median of the absolute value of a standard normal number."""
BORDER = 4
"""Wavelet coefficients at each border that see the mirrored extension of the image, where noise is weaker."""


def noise_level(noisy: NDArray[np.generic]) -> float:
    """Estimate the standard deviation of white Gaussian noise in an image.

    The estimate is the median absolute deviation of the diagonal detail coefficients of a biorthogonal 4.4 wavelet,
    divided by 0.6745 and by the gain of this sub-band for white noise (the wavelet is not orthogonal).

    Correlated noise (interpolated or multi-coil images, JPEG) is underestimated, and fine texture counts as noise.
    Where more than half of the image is constant the estimate is 0.

    Args:
        noisy: Image (H, W) or (H, W, C), at least 2 px a side, real or complex.

    Returns:
        The standard deviation, in the units of the image; over channels, the root mean square. For complex images it is
        **per component**, sqrt((sigma_re**2 + sigma_im**2) / 2), which at good signal-to-noise ratio is also that of
        the magnitude. (The scripts that this method comes from return sqrt(sigma_re**2 + sigma_im**2), larger by
        sqrt 2.)

    Raises:
        DataError: The image has another number of dimensions, or is smaller than 2 px.

    Source:
        Donoho and Johnstone, Biometrika 1994, with the wavelet of "Contrast2Contrast".
    """
    if noisy.ndim not in (2, 3) or min(noisy.shape[:2]) < 2:
        raise DataError(
            f"estimating the noise level needs an image (H, W) or (H, W, C) of at least 2 px a side, got {noisy.shape}"
        )
    planes = noisy[..., None] if noisy.ndim == 2 else noisy
    return _root_mean_square([_plane_noise_level(planes[..., c]) for c in range(planes.shape[-1])])


def noise_levels(noisy_NCHW: NDArray[np.generic]) -> NDArray[np.float64]:
    """Estimate the noise level of each image of a batch.

    Args:
        noisy_NCHW: Images (N, C, H, W). Real and imaginary channels count as two channels.

    Returns:
        `noise_level` of each image, (N,).
    """
    return np.array([noise_level(np.moveaxis(image, 0, -1)) for image in noisy_NCHW])


def noise_levels_on_device(noisy_NCHW: Tensor) -> Tensor:
    """`noise_levels` of a batch where it is, (N,) in float32; per component for complex and two-channel data."""
    parts = torch.view_as_real(noisy_NCHW).movedim(-1, 2).flatten(1, 2) if noisy_NCHW.is_complex() else noisy_NCHW
    high_pass = pywt.Wavelet(WAVELET).dec_hi[::-1]
    # the border pixels twice and beyond, and every other position, as in pywt's mode "symmetric"
    extended = mirrored(parts.float().flatten(0, 1), len(high_pass) - 1)[:, 1:, 1:]
    diagonal = filtered(extended, high_pass, high_pass, step=2)
    if min(diagonal.shape[-2:]) > 4 * BORDER:
        diagonal = diagonal[:, BORDER:-BORDER, BORDER:-BORDER]
    levels = medians(diagonal.abs().flatten(1)) / MAD_OF_UNIT_NORMAL / sum(tap * tap for tap in high_pass)
    return levels.view(parts.shape[:2]).square().mean(1).sqrt()


def _plane_noise_level(plane: NDArray[np.generic]) -> float:
    """Noise level of one channel (H, W)."""
    if np.iscomplexobj(plane):
        return _root_mean_square([_plane_noise_level(plane.real), _plane_noise_level(plane.imag)])
    wavelet = pywt.Wavelet(WAVELET)
    _, (_, _, diagonal) = pywt.dwt2(np.asarray(plane, dtype=np.float64), wavelet)
    if min(diagonal.shape) > 4 * BORDER:
        diagonal = diagonal[BORDER:-BORDER, BORDER:-BORDER]
    # dec_hi filters along both axes, and each time scales the deviation of white noise by the root of this sum.
    gain = sum(tap * tap for tap in wavelet.dec_hi)
    return float(np.median(np.abs(diagonal)) / MAD_OF_UNIT_NORMAL / gain)


def _root_mean_square(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
