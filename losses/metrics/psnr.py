"""Peak signal-to-noise ratio."""

import math

import numpy as np
from numpy.typing import NDArray

from losses.metrics.common.images import checked_pair, checked_range


def psnr(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """10 log10(data_range**2 / mean squared error), in dB, larger is better; inf for equal images, -inf for a restored
    image that is not finite.

    The mean is over all pixels and channels. The peak is `data_range`, never a maximum found in the images: a peak
    taken from the data, as some published scripts do, makes the number depend on the noise.
    """
    restored, clean = checked_pair(restored, clean)
    error = float(np.mean((restored - clean) ** 2))
    if not math.isfinite(error):
        return -math.inf
    return 10 * math.log10(checked_range(data_range) ** 2 / error) if error != 0 else math.inf
