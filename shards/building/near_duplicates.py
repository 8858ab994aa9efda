"""Which images show nearly the same: frames of one video or copies of one photograph, which must share a split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from configs.errors import DataError

SIDE = 32
BLOCK = 2048
"""Images compared with all others at once; bounds memory."""


def groups(paths: Sequence[Path], threshold: float) -> list[int]:
    """For each image the number of the first image it belongs with; images whose grey thumbnails correlate by at
    least `threshold` belong together, also through others. Raises DataError for a file that is no image.
    """
    thumbs = np.stack([_thumb(path) for path in paths])
    home = list(range(len(paths)))
    for start in range(0, len(paths), BLOCK):
        rows, columns = np.nonzero(thumbs[start : start + BLOCK] @ thumbs.T >= threshold)
        for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
            if row != column:
                _join(home, row, column)
    return [_root(home, i) for i in range(len(paths))]


def _thumb(path: Path) -> np.ndarray:
    """A small grey version of zero mean and unit length."""
    try:
        with Image.open(path) as image:
            image.draft("L", (SIDE * 2, SIDE * 2))  # JPEG decodes at an eighth of the size at an eighth of the cost
            small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not an image Pillow can read ({error})") from error
    small = (small - small.mean()).ravel()
    return small / (np.linalg.norm(small) or 1.0)


def _root(home: list[int], i: int) -> int:
    while home[i] != i:
        home[i] = home[home[i]]
        i = home[i]
    return i


def _join(home: list[int], a: int, b: int) -> None:
    a, b = _root(home, a), _root(home, b)
    home[max(a, b)] = min(a, b)
