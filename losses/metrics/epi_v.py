"""Vertical edge preservation index."""

import numpy as np
from numpy.typing import NDArray

from quell.losses.metrics.epi import edge_ratio, edge_ratio_form


def epi_v(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """`epi` of vertical differences only (between neighbouring rows); 1 is best.

    Args:
        restored: Image (H, W) or (H, W, C).
        clean: Clean image of the same shape.
        data_range: Not used; the ratio does not depend on it.

    Returns:
        The index in [0, inf]; NaN for a clean image without such edges, inf for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together.
    """
    return edge_ratio(restored, clean, axes=(0,))


BATCH_FORM = edge_ratio_form(0)
