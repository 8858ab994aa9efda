"""Noise standard deviation, estimated from one noisy image without a clean one."""

import math

import numpy as np
import pywt
from numpy.typing import NDArray

from configs.errors import DataError

WAVELET = "bior4.4"
MAD_OF_UNIT_NORMAL = 0.6745
"""Median of the absolute value of a standard normal number."""
BORDER = 4
"""Coefficients at each border that see the mirrored extension of the image, where noise is weaker."""


def noise_level(noisy: NDArray[np.generic]) -> float:
    """Standard deviation of the white Gaussian noise in an image, in its own units.

    (H, W), or (H, W, C): the root mean square over channels. Complex images: **per component**, that is the standard
    deviation of the real part alone, sqrt((sigma_re**2 + sigma_im**2) / 2); at good signal-to-noise it is also that of
    the magnitude. (The scripts this method comes from return sqrt(sigma_re**2 + sigma_im**2), larger by sqrt 2.)

    Median absolute deviation of the diagonal detail sub-band of a biorthogonal 4.4 wavelet, over 0.6745, over the gain
    of the sub-band for white noise (the wavelet is not orthogonal). Correlated noise (interpolated or multi-coil
    images, JPEG) is underestimated, fine texture counts as noise, and where more than half of the image is constant
    the estimate is 0. Source: Donoho and Johnstone, Biometrika 1994, with the wavelet of "Contrast2Contrast".
    """
    if noisy.ndim not in (2, 3) or min(noisy.shape[:2]) < 2:
        raise DataError(f"the noise level is estimated from (H, W) or (H, W, C) images, but this one is {noisy.shape}")
    planes = noisy[..., None] if noisy.ndim == 2 else noisy
    return _rms([_plane(planes[..., c]) for c in range(planes.shape[-1])])


def noise_levels(noisy_NCHW: NDArray[np.generic]) -> NDArray[np.float64]:
    """`noise_level` of each image of a batch, (N,). Channels (such as real and imaginary) are averaged as squares."""
    return np.array([noise_level(np.moveaxis(image, 0, -1)) for image in noisy_NCHW])


def _plane(plane: NDArray[np.generic]) -> float:
    if np.iscomplexobj(plane):
        return _rms([_plane(plane.real), _plane(plane.imag)])
    wavelet = pywt.Wavelet(WAVELET)
    _, (_, _, diagonal) = pywt.dwt2(np.asarray(plane, dtype=np.float64), wavelet)
    if min(diagonal.shape) > 4 * BORDER:
        diagonal = diagonal[BORDER:-BORDER, BORDER:-BORDER]
    gain = sum(tap * tap for tap in wavelet.dec_hi)
    return float(np.median(np.abs(diagonal)) / MAD_OF_UNIT_NORMAL / gain)


def _rms(values: list[float]) -> float:
    return math.sqrt(sum(value * value for value in values) / len(values))
