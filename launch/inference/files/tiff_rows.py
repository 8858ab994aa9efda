"""The pages of a TIFF file: which axis is which, and what small depths and grey palettes store for a grey value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.stored_pixels import SMALL_DEPTHS
from quell.launch.inference.writers.tiff_copies import StoredRows
from quell.shards.image_files.tiff import describe
from quell.shards.image_files.tiff_values import palette_colours

_PALETTE = 3


def rows_of(source: Path, stored: np.ndarray) -> StoredRows:
    """The pixels of each page, from an array in the layout of the file.

    Args:
        source: The TIFF file.
        stored: As `stored_pixels.to_file` returns it.
    """
    import tifffile

    with tifffile.TiffFile(source) as file:
        series: Any = describe(file, source).series
        axes, convert = series.axes, numbers_of(series.keyframe)
        array = stored.reshape(series.shape)
    pages = pages_of(array, axes)
    return lambda page, top, bottom: convert(pages[page, top:bottom])


def check_one_file(source: Path) -> None:
    """Raise DataError where the pages of an OME-TIFF are in several files, which one copy cannot replace."""
    import tifffile

    with tifffile.TiffFile(source) as file:
        if describe(file, source).series.is_multifile:
            raise DataError(
                f"{source}: an OME-TIFF whose pages are in several files cannot be written again; choose --format tif, "
                "or save it as one file"
            )


def pages_of(array: np.ndarray, axes: str) -> np.ndarray:
    """An array with tifffile's axes as (pages, H, W, samples); a view where possible."""
    samples = [axes.index("S")] if "S" in axes else []
    inner = [axes.index("Y"), axes.index("X"), *samples]
    outer = [axis for axis in range(array.ndim) if axis not in inner]
    ordered = array.transpose([*outer, *inner])
    height, width = array.shape[inner[0]], array.shape[inner[1]]
    return ordered.reshape(-1, height, width, array.shape[samples[0]] if samples else 1)


def numbers_of(page: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What turns 8-bit grey values into the numbers of a page of small depth, or with a grey palette."""
    if int(page.photometric) == _PALETTE:
        table = palette_colours(page)[:, 0].astype(int)
        entries = np.abs(table[None] - np.arange(256)[:, None]).argmin(axis=1).astype(page.dtype)
        return lambda rows: entries[rows]
    if page.bitspersample in SMALL_DEPTHS and page.bitspersample > 1:
        factor = SMALL_DEPTHS[page.bitspersample]
        return lambda rows: ((rows.astype(int) + factor // 2) // factor).astype(np.uint8)
    return lambda rows: rows
