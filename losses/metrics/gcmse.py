"""Gradient-conducted mean squared error: errors count where the clean image has edges."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quell.losses.metrics.common.batch_form import BatchForm, worst_unless_finite
from quell.losses.metrics.common.images import Image, checked_pair, checked_range, is_finite

KAPPA = 0.5
"""Difference of neighbouring pixels, of a data range of 1, that counts as an edge."""


def gcmse(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """`gcmse_per_pixel` times height times width, as in published tables; smaller is better.

    It grows with the area: an image of 450 x 900 pixels scores a hundred times what one of 45 x 90 with the same
    content does. Compare only images of one size, and report this size.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have; both are divided by it.

    Returns:
        The error in [0, inf]; NaN for a clean image with a flat channel, inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together, or `data_range` is not positive.

    Source:
        Lopez-Randulfe et al., Springer LNCS 10658, 2017, with the weights of the TCFL reproduction.
    """
    height, width = restored.shape[:2]
    return height * width * weighted_error(restored, clean, data_range)


def weighted_error(restored: NDArray[np.generic], clean: NDArray[np.generic], data_range: float) -> float:
    """Sum of (G * (restored - clean))**2 over sum of G, of images divided by `data_range`; averaged over channels.

    G = 1 - mean of exp(-(g / 0.5)**2) over the clean image's differences g to the four neighbours; a neighbour outside
    of the image counts as equal.
    """
    restored, clean = checked_pair(restored, clean)
    range_ = checked_range(data_range)
    if not is_finite(restored):
        return math.inf
    restored_HWC, clean_HWC = (np.atleast_3d(image) / range_ for image in (restored, clean))
    values = []
    for c in range(clean_HWC.shape[2]):
        weight = _edge_weights(clean_HWC[..., c])
        total = float(weight.sum())
        error = float(np.sum((weight * (restored_HWC[..., c] - clean_HWC[..., c])) ** 2))
        values.append(error / total if total > 0 else math.nan)
    return float(np.mean(values))


def _edge_weights(clean: Image) -> Image:
    """G of one channel, in [0, 1]."""
    conductance = np.zeros_like(clean)
    for axis in (0, 1):
        similarity = np.exp(-((np.diff(clean, axis=axis) / KAPPA) ** 2))
        pad_width = [(0, 0), (0, 0)]
        for pad_width[axis] in ((0, 1), (1, 0)):
            conductance += np.pad(similarity, pad_width, constant_values=1.0)
    return np.asarray(1 - conductance / 4)


def weighted_errors(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """`weighted_error` of every image of a batch, (K, N)."""
    similar = torch.zeros_like(clean_NCHW)
    for dim, pads in ((-2, ((0, 0, 0, 1), (0, 0, 1, 0))), (-1, ((0, 1), (1, 0)))):
        similarity = torch.exp(-(clean_NCHW.diff(dim=dim) / KAPPA).square())
        for pad in pads:
            similar += F.pad(similarity, pad, value=1.0)
    weight_NCHW = 1 - similar / 4
    error_KNC = (weight_NCHW * (restored_KNCHW - clean_NCHW)).square().flatten(-2).sum(-1)
    total_NC = weight_NCHW.flatten(-2).sum(-1)
    values_KN = torch.where(total_NC > 0, error_KNC / total_NC, math.nan).mean(-1)
    return worst_unless_finite(values_KN, restored_KNCHW, math.inf)


def _times_pixels(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """`gcmse` of every image of a batch, (K, N)."""
    return clean_NCHW.shape[-2] * clean_NCHW.shape[-1] * weighted_errors(restored_KNCHW, clean_NCHW)


BATCH_FORM = BatchForm(_times_pixels)
