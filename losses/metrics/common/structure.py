"""The maps that SSIM and MS-SSIM are means of, for batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.common.separable_filters import filtered

SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03
"""Stabilising constants of luminance and contrast, relative to the data range."""


def similarity_maps(
    restored_KNCHW: Tensor, clean_NCHW: Tensor, data_range: float, taps: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Maps of the luminance and of the contrast-structure term, (K, N, C, h, w), where the full window fits."""
    # In terms of the error: twice the covariance is the sum of the variances minus the error's variance, and likewise
    # for the means. float32 then rounds the dissimilarity, not 1. A shift changes no variance, only how it is rounded.
    shift_NC11 = clean_NCHW.mean((-2, -1), keepdim=True)
    clean, error = clean_NCHW - shift_NC11, restored_KNCHW - clean_NCHW
    planes = torch.cat([clean[None], (clean * clean)[None], error, error * error, clean * error])
    means = filtered(planes.flatten(0, 2), taps, taps).unflatten(0, planes.shape[:3])
    mean_c, square_c, mean_e, square_e, product = means.split((1, 1, *[len(error)] * 3))
    variance_e = square_e - mean_e.square()
    variances = 2 * (square_c - mean_c.square()) + variance_e + 2 * (product - mean_c * mean_e)
    mean_c = mean_c + shift_NC11
    squares = mean_c.square() + (mean_c + mean_e).square()
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    return 1 - mean_e.square() / (squares + c1), 1 - variance_e / (variances + c2)
