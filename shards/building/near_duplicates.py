"""Near-duplicates: frames of one video or copies of one photograph, which have to stay in one split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from quell.configs.errors import DataError
from quell.shards.building.image_files import read_image
from quell.shards.image_files import pillow_formats
from quell.shards.image_files.geometry import turned_layout

SIDE = 32
"""Images are compared by grey thumbnails with this side, in pixels."""
BLOCK = 2048
"""Images that are compared with all others at a time; bounds the memory."""


def near_duplicates(paths: Sequence[Path], threshold: float) -> list[int]:
    """Group images whose grey thumbnails correlate by at least `threshold`, directly or through other images.

    Args:
        paths: Image files that Pillow can read.
        threshold: Correlation, -1 to 1.

    Returns:
        For each image, the position in `paths` of the first image of its group.

    Raises:
        DataError: A file is not an image.
    """
    thumbnails = np.stack([_thumbnail(path) for path in paths])
    parents = list(range(len(paths)))
    for start in range(0, len(paths), BLOCK):
        rows, columns = np.nonzero(thumbnails[start : start + BLOCK] @ thumbnails.T >= threshold)
        for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
            if row != column:
                _join(parents, row, column)
    return [_root(parents, i) for i in range(len(paths))]


def _thumbnail(path: Path) -> np.ndarray:
    """A small grey version with zero mean and unit length: scalar products of these are correlations."""
    is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
    small = (_jpeg_thumbnail(path) if is_jpeg else _shrunk(path)).ravel()
    small = small - small.mean()
    return small / (np.linalg.norm(small) or 1.0)


def _jpeg_thumbnail(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            orientation = pillow_formats.orientation_of(image)
            image.draft("L", (SIDE * 2, SIDE * 2))  # lets the JPEG decoder skip most of the work
            small = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: not an image that Pillow can read ({error})") from error
    return turned_layout(small.shape, "HW", "HW", orientation).apply(small)


def _shrunk(path: Path) -> np.ndarray:
    image = read_image(path, grey=True)
    if image.dtype != np.uint8:
        image = image.astype(np.float32)
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)


def _root(parents: list[int], i: int) -> int:
    """The representative of a group in a union-find forest; shortens the path to it on the way."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


def _join(parents: list[int], a: int, b: int) -> None:
    a, b = _root(parents, a), _root(parents, b)
    parents[max(a, b)] = min(a, b)
