"""Whether a spectrum from smooth regions is that of white noise on top of what structure is left in them."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BANDS = (0.28, 0.36, 0.44, 0.71)
"""Borders of bands, in cycles per pixel, where structure is weak."""
FLAT = 1.2
"""Ratio of the strongest and the weakest band's power up to which noise may be white."""
MOST = 2.5
"""Total power, over that of white noise, up to which the rest may be structure."""


def white_share(power: Array) -> float:
    """Share of the power (P, P) that is white noise's, if all above 0.28 cycles per pixel is flat; else 0.

    Correlated noise falls off over all frequencies; structure adds to the low ones. An excess there alone cannot be
    told from structure, so the simpler explanation is taken.
    """
    frequencies = np.fft.fftfreq(power.shape[0])
    radius = np.hypot.outer(frequencies, frequencies)
    along_rows = np.abs(frequencies)[:, None] > np.abs(frequencies)
    bands = [
        float(power[(radius > low) & (radius <= high) & orientation].mean())
        for low, high in pairwise(BANDS)
        for orientation in (along_rows, ~along_rows)
    ]
    white = float(power[radius > BANDS[0]].mean())
    is_white = max(bands) <= FLAT * min(bands) and power.mean() <= MOST * white
    return min(1.0, white / float(power.mean())) if is_white else 0.0
