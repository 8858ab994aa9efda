"""Vertical edge preservation index."""

import numpy as np
from numpy.typing import NDArray

from losses.metrics.epi import edge_ratio


def epi_v(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """As `epi`, of vertical differences only (between neighbouring rows); 1 is best."""
    return edge_ratio(restored, clean, axes=(0,))
