"""Structural similarity."""

import numpy as np
import skimage
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.configs.errors import DataError
from quell.losses.common.separable_filters import gaussian_taps
from quell.losses.metrics.common.batch_form import BatchForm, require_size, within_float32, worst_unless_finite
from quell.losses.metrics.common.images import checked_pair, checked_range, is_finite
from quell.losses.metrics.common.structure import SIGMA_PX, dissimilarities

WINDOW_PX = 11
SMALLEST_PX = WINDOW_PX


def ssim(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Mean structural similarity, averaged over channels; larger is better.

    Gaussian weights of sigma 1.5 in a window of 11 px, population covariances, K1 0.01, K2 0.03; borders of 5 px do not
    count.

    Args:
        restored: Image (H, W) or (H, W, C), at least 11 px a side.
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have; the stabilising
            constants scale with it, so that twice the true range shows speckle of SSIM 0.06 as 0.19.

    Returns:
        The similarity in [-1, 1]; -1 for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together or are too small, or `data_range` is not positive.

    Source:
        Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 2004.
    """
    restored, clean = checked_pair(restored, clean)
    if min(restored.shape[:2]) < WINDOW_PX:
        raise DataError(f"SSIM needs images of at least {WINDOW_PX} px a side, got shape {restored.shape}")
    if not is_finite(restored):
        return -1.0
    value = skimage.metrics.structural_similarity(
        restored,
        clean,
        data_range=checked_range(data_range),
        channel_axis=-1 if restored.ndim == 3 else None,
        gaussian_weights=True,
        sigma=SIGMA_PX,
        use_sample_covariance=False,
    )
    return float(value)


def _measure(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """The similarity of every image of a batch, (K, N)."""
    require_size(clean_NCHW, SMALLEST_PX, "SSIM")
    taps = gaussian_taps(SIGMA_PX, WINDOW_PX // 2)
    luminance, contrast = dissimilarities(within_float32(restored_KNCHW), clean_NCHW, taps)
    missing = torch.addcmul(luminance + contrast, luminance, contrast, value=-1)
    return worst_unless_finite(1 - missing.flatten(2).mean(-1), restored_KNCHW, -1.0)


BATCH_FORM = BatchForm(_measure)
