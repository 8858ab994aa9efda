"""Small pictures, and what cameras store of them."""

from collections.abc import Callable

import numpy as np

GREY = (np.arange(48 * 64, dtype=np.uint32).reshape(48, 64) * 7 % 251).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def stored_for(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that the tag `orientation` turns it into `upright`."""
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(undo[orientation](upright))
