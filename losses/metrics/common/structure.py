"""The maps that SSIM and MS-SSIM are means of, for batches of images divided by the data range."""

from collections.abc import Sequence

import torch
from torch import Tensor

from quell.losses.common.separable_filters import filtered
from quell.losses.msssim import K1, K2

SIGMA_PX = 1.5


def dissimilarities(restored_KNCHW: Tensor, clean_NCHW: Tensor, taps: Sequence[float]) -> tuple[Tensor, Tensor]:
    """One minus the luminance and one minus the contrast-structure term, (K, N, C, h, w), where the full window fits.

    They are computed from the error: twice the covariance is the sum of the variances minus the error's variance, and
    likewise for the means. float32 then rounds the dissimilarity, not 1.

    Args:
        restored_KNCHW: Images, divided by the data range.
        clean_NCHW: What they are compared with, alike.
        taps: The window.
    """
    restorations = len(restored_KNCHW)
    shift_NC11 = clean_NCHW.mean((-2, -1), keepdim=True)  # changes no variance, only how it is rounded
    planes = restored_KNCHW.new_empty((1 + 3 * restorations, *clean_NCHW.shape))
    clean, error, square_e, squares = planes.split((1, *[restorations] * 3))
    torch.sub(clean_NCHW, shift_NC11, out=clean[0])
    torch.sub(restored_KNCHW, clean_NCHW, out=error)
    torch.mul(error, error, out=square_e)
    restored = error + clean
    torch.addcmul(clean * clean, restored, restored, out=squares)
    mean_c, mean_e, square_e, squares = filtered(planes, taps, taps).split((1, *[restorations] * 3))
    mean_r = mean_c + mean_e
    variance_e = square_e.addcmul_(mean_e, mean_e, value=-1)
    variances = squares.sub_(mean_c * mean_c).addcmul_(mean_r, mean_r, value=-1)
    contrast = variance_e.div_(variances.add_(K2**2))
    mean_c, mean_r = mean_c + shift_NC11, mean_r.add_(shift_NC11)
    luminance = mean_e.square_().div_(torch.addcmul(mean_c * mean_c + K1**2, mean_r, mean_r))
    return luminance, contrast
