"""Structural similarity."""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from configs.errors import DataError
from losses.metrics.common.images import checked_pair, checked_range, finite

WINDOW_PX = 11


def ssim(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Mean structural similarity in [-1, 1], larger is better; -1 for a restored image that is not finite.

    Gaussian weights of sigma 1.5 cut at 11 px, population covariances, K1 0.01, K2 0.03; borders of 5 px are left out;
    channels are averaged. The stabilising constants scale with `data_range`: twice the true range shows speckle of
    SSIM 0.06 as 0.19. Source: Wang et al., IEEE TIP 2004.
    """
    restored, clean = checked_pair(restored, clean)
    if min(restored.shape[:2]) < WINDOW_PX:
        raise DataError(f"SSIM needs images of at least {WINDOW_PX} px a side, but this one has shape {restored.shape}")
    if not finite(restored):
        return -1.0
    value = structural_similarity(
        restored,
        clean,
        data_range=checked_range(data_range),
        channel_axis=-1 if restored.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)
