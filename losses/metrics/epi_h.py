"""Horizontal edge preservation index."""

import numpy as np
from numpy.typing import NDArray

from losses.metrics.epi import edge_ratio


def epi_h(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """As `epi`, of horizontal differences only (between neighbouring columns); 1 is best."""
    return edge_ratio(restored, clean, axes=(1,))
