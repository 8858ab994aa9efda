"""The mean squared error of every image of a batch, which PSNR, RMSE and NMSE are made of."""

import numpy as np
from torch import Tensor

from quell.losses.metrics.common.batch_form import Values


def mean_squares(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """Mean squared error of images divided by the data range, (K, N)."""
    return (restored_KNCHW - clean_NCHW).square_().flatten(2).mean(-1)


def root_mean_squared(squares_KN: Values) -> Values:
    """The root of the mean squared error, infinite for images that are not finite, (K, N)."""
    return np.where(np.isfinite(squares_KN), np.sqrt(squares_KN), np.inf)
