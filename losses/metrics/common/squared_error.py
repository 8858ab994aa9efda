"""The mean squared error of every image of a batch, which PSNR and RMSE are made of."""

import numpy as np
import torch
from torch import Tensor

from losses.metrics.common.batch_form import Values


def mean_squares(restored_KNCHW: Tensor, clean_NCHW: Tensor, data_range: float) -> Tensor:
    """The largest absolute error, and the mean square of errors divided by it: (2, K, N).

    The squares of a diverged network's errors, or of tiny ones, would leave the range of float32.
    """
    error_KNP = (restored_KNCHW - clean_NCHW).flatten(2)
    largest_KN = error_KNP.abs().amax(-1)
    scaled_KNP = error_KNP / largest_KN.clamp_min(torch.finfo(torch.float32).tiny)[..., None]
    return torch.stack([largest_KN, scaled_KNP.square().mean(-1)])


def root_mean_squared(squares_2KN: Values) -> Values:
    """The root of the mean squared error, infinite for images that are not finite, (K, N)."""
    largest_KN, mean_KN = squares_2KN
    root_KN = np.where(largest_KN == 0, 0.0, largest_KN * np.sqrt(mean_KN))
    return np.where(np.isfinite(root_KN), root_KN, np.inf)
