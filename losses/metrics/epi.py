"""Edge preservation index."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked_pair, finite


def epi(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Sum of |one-pixel differences| of the restored image over that of the clean one, both directions; 1 is best.

    Below 1 edges are blurred, above 1 there is noise left: read it beside PSNR, it does not say where the differences
    are. `data_range` plays no part. The published scripts give clean over restored, the inverse, of vertical
    differences only. NaN for a flat clean image, inf for a restored image that is not finite.
    """
    return edge_ratio(restored, clean, axes=(0, 1))


def edge_ratio(restored: NDArray[np.generic], clean: NDArray[np.generic], *, axes: tuple[int, ...]) -> float:
    """The index of differences along these axes: 0 is vertical (between rows), 1 horizontal (between columns)."""
    restored, clean = checked_pair(restored, clean)
    if not finite(restored):
        return math.inf
    found, wanted = (sum(float(np.abs(np.diff(image, axis=a)).sum()) for a in axes) for image in (restored, clean))
    return found / wanted if wanted > 0 else math.nan
