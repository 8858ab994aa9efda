"""Smooth random fields: cubic B-splines through random nodes."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NODES = 9
"""Spline nodes across the image in each direction."""


def smooth_fields(random: np.random.Generator, size: int, count: int) -> NDArray[np.float64]:
    """Smooth random fields (count, size, size) with unit variance, a handful of bumps across the image."""
    weights = _spline_weights(size)
    return weights @ random.standard_normal((count, NODES, NODES)) @ weights.T


@lru_cache(maxsize=8)
def _spline_weights(size: int) -> NDArray[np.float64]:
    """Cubic B-spline weights (size, NODES), scaled so that weighted normal numbers have unit variance on average."""
    positions = np.linspace(1, NODES - 2, size)[:, None] - np.arange(NODES)[None, :]
    distances = np.abs(positions)
    inner = 2 / 3 - distances**2 + distances**3 / 2
    outer = (2 - distances) ** 3 / 6
    weights = np.where(distances < 1, inner, np.where(distances < 2, outer, 0))
    return weights / np.sqrt((weights**2).sum(axis=1).mean())
