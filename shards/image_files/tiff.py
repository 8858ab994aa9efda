"""TIFF, by tifffile: all byte orders, compressions, tilings and planar layouts; stacks of ImageJ and OME.

The numbers are those that a viewer shows: black is the smallest, palettes are expanded (to grey where all entries are
grey), 1-, 2- and 4-bit images become 8-bit ones, and the orientation tag is applied. Opacity is kept apart.
"""

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from quell.configs.errors import DataError
from quell.shards.image_files.errors import LONGEST, reading
from quell.shards.image_files.geometry import Geometry, Layout, turned_layout
from quell.shards.image_files.image import Frame, StoredImage, Values
from quell.shards.image_files.tiff_chain import check_page_chain
from quell.shards.image_files.tiff_values import PixelMeaning, pixel_meaning
from quell.shards.listing.finite import check_finite

ORIENTATION = 274
COLOUR_MAP = 320
GDAL_NODATA = 42113
UNITS_MM = {
    "m": 1e3,
    "cm": 10.0,
    "mm": 1.0,
    "um": 1e-3,
    "µm": 1e-3,
    "\\u00b5m": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "nm": 1e-6,
    "inch": 25.4,
    "in": 25.4,
}
"""Units of length -> millimetres, as ImageJ and OME write them."""


class TiffImage(NamedTuple):
    """How the image of an open file is stored, before its pixels are read."""

    series: TiffPageSeries
    page: TiffPage
    """The first page, whose tags hold for all."""
    meaning: PixelMeaning
    stack_axes: tuple[tuple[str, int], ...]
    """Letter and length of the axes in front of rows and columns."""
    layout: Layout
    """From the shape of `series` to `stack_axes`, rows, columns and, where there are any, samples."""


def read(path: Path) -> list[StoredImage]:
    """Read a TIFF file.

    `source` is a dict: `byteorder`, `is_bigtiff`, `imagej` (metadata), `ome` (XML), `orientation`.

    Raises:
        DataError: The file is damaged, holds images of several kinds, or a kind that is not supported.
    """
    with reading(path, "cannot be read as TIFF"), _complaints(path), TiffFile(path) as file:
        image = describe(file, path)
        return [_assemble(path, file, image, image.series.asarray())]


def describe(file: TiffFile, path: Path) -> TiffImage:
    """How the image of an open file is stored. Raises DataError for what is not supported."""
    check_page_chain(path)
    with _complaints(path):  # the structure of the file is parsed only now
        series = _only_series(file, path)
        pages = [page for page in series.pages if isinstance(page, TiffPage)]
    for number, each in enumerate(series.pages):
        if each is None:
            raise DataError(f"{path}: damaged: page {number} is missing")
    for each in pages:
        _check_segments(each, path)
    page = series.keyframe
    meaning = pixel_meaning(page, path)
    orientation = _common_tags(series, path)
    axes = _letters(series.axes)
    if axes.count("H") != 1 or axes.count("W") != 1 or len(set(axes)) != len(axes):
        raise DataError(f"{path}: axes {series.axes} of shape {series.shape}: expected one of rows and one of columns")
    leading = [letter for letter in axes if letter not in "HWS"]
    wanted = "".join(leading) + "HW" + ("S" if "S" in axes else "")
    layout = turned_layout(series.shape, axes, wanted, orientation)
    stack_axes = tuple((letter, series.shape[axes.index(letter)]) for letter in leading)
    stated = (file.imagej_metadata or {}).get("images", 1)
    if isinstance(stated, int) and stated > math.prod(length for _, length in stack_axes):
        raise DataError(f"{path}: damaged: {stated} images are stated but {len(series.pages)} are present")
    return TiffImage(series, page, meaning, stack_axes, layout)


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    """Raise DataError for damage that tifffile logs and passes over, giving fewer pages than the file has."""
    logger, thread, found = logging.getLogger("tifffile"), threading.get_ident(), list[str]()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != thread:
            return True
        if record.levelno >= logging.ERROR and "TiffTag" not in record.getMessage():  # odd tags are common
            found.append(record.getMessage().partition("> ")[2] or record.getMessage())
        return False

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    if found:
        raise DataError(f"{path}: damaged: {' '.join(found[0].split())[:LONGEST]}")


def _check_segments(page: TiffPage, path: Path) -> None:
    """Raise DataError where tiles or strips of a page are missing, which tifffile would fill with zeros."""
    expected = math.prod(page.chunked)
    present = sum(
        offset > 0 and count > 0 for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
    )
    if present < expected and not page.is_contiguous:
        raise DataError(f"{path}: damaged: {expected - present} of {expected} strips or tiles are missing")


def _only_series(file: TiffFile, path: Path) -> TiffPageSeries:
    """The series that is not a thumbnail or a smaller copy of another one."""
    series = [each for each in file.series if not each.keyframe.is_reduced] or file.series[:1]
    if not series or 0 in series[0].shape:
        raise DataError(f"{path}: holds no image")
    if len(series) > 1:
        kinds = ", ".join(f"{each.axes} {each.shape} {each.dtype}" for each in series)
        raise DataError(f"{path}: holds {len(series)} images of different kinds ({kinds}); save them as separate files")
    return series[0]


def _common_tags(series: TiffPageSeries, path: Path) -> int:
    """The orientation tag. Raises DataError where pages differ in it, or in their palettes."""
    pages = [page for page in series.pages if isinstance(page, TiffPage)]
    turns = {int(str(_tag(page, ORIENTATION) or 1)) for page in pages}
    if len(turns) > 1:
        raise DataError(f"{path}: its pages have different orientation tags ({sorted(turns)}); turn them alike first")
    palettes = {np.asarray(_tag(page, COLOUR_MAP)).tobytes() for page in pages}
    if len(palettes) > 1:
        raise DataError(f"{path}: its pages have different palettes; convert them to RGB first")
    return next(iter(turns), 1)


def _tag(page: TiffPage, code: int) -> object:
    tag = page.tags.get(code)
    return tag.value if tag is not None else None


def _letters(axes: str) -> str:
    """The letters of axes in tifffile, in ours: Y and X are H and W, I and Q (pages and unknown) become N."""
    letters = axes.replace("Y", "H").replace("X", "W")
    return letters.replace("I", "N") if "N" not in letters and "Q" not in letters else letters.replace("Q", "N")


def _assemble(path: Path, file: TiffFile, image: TiffImage, stored: np.ndarray) -> StoredImage:
    has_samples = "S" in image.series.axes
    turned = image.layout.apply(stored.reshape(image.layout.file_shape))
    pixels = image.meaning.decode(turned)
    frames = int(np.prod([length for _, length in image.stack_axes]))
    first = len(image.stack_axes)
    pixels = pixels.reshape(frames, *pixels.shape[first:])
    layout = image.layout
    if pixels.ndim == 4 and not has_samples:  # a palette of colours
        layout = Layout((*layout.file_shape, 3), (*layout.order, len(layout.order)), (*layout.flips, False))
    elif pixels.ndim == 4 and pixels.shape[3] != turned.shape[-1]:  # inks
        channels = image.series.axes.index("S")
        shape = tuple(3 if axis == channels else side for axis, side in enumerate(layout.file_shape))
        layout = Layout(shape, layout.order, layout.flips)
    alpha = None
    if image.meaning.has_alpha and pixels.ndim == 4:
        pixels, alpha = pixels[..., :-1], np.ascontiguousarray(pixels[..., -1])
        pixels = pixels[..., 0] if pixels.shape[3] == 1 else pixels
    pixels = np.ascontiguousarray(pixels)
    check_finite(pixels, str(path))
    _check_no_data(pixels, image.page, path)
    return StoredImage(
        pixels,
        path,
        "tiff",
        _with_window(image.meaning.values, file),
        Geometry(layout, spacing_mm=_spacing_mm(file, image)),
        tuple(Frame(path, number, text) for number, text in enumerate(_identifiers(image.stack_axes))),
        image.stack_axes,
        alpha,
        source={
            "byteorder": file.byteorder,
            "is_bigtiff": file.is_bigtiff,
            "imagej": file.imagej_metadata,
            "ome": file.ome_metadata,
            "orientation": _tag(image.page, ORIENTATION),
        },
    )


def _check_no_data(pixels: np.ndarray, page: TiffPage, path: Path) -> None:
    """Raise DataError where a pixel has the number that GDAL has noted as 'no data'."""
    try:
        marker = float(str(_tag(page, GDAL_NODATA)).strip("\0 "))
    except ValueError:
        return
    found = pixels == marker
    if found.any():
        place = np.argwhere(found)[0].tolist()
        raise DataError(
            f"{path}: {int(found.sum())} of {found.size} values are {marker:g}, which the file declares to be no data "
            f"(the first in slice {place[0]}, row {place[1]}, column {place[2]}); fill or crop them first"
        )


def _identifiers(stack_axes: tuple[tuple[str, int], ...]) -> list[str]:
    """'T=0 Z=3' for each frame; the number of the page where the axes mean nothing else."""
    if not stack_axes:
        return [""]
    places = np.ndindex(*(length for _, length in stack_axes))
    letters = [letter for letter, _ in stack_axes]
    return [" ".join(f"{letter}={number}" for letter, number in zip(letters, place, strict=True)) for place in places]


def _with_window(values: Values, file: TiffFile) -> Values:
    """The range to display, which ImageJ stores."""
    notes = file.imagej_metadata or {}
    low, high = notes.get("min"), notes.get("max")
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or not low < high or values.inverted:
        return values
    return Values(**{**vars(values), "window": (float(low), float(high))})


def _spacing_mm(file: TiffFile, image: TiffImage) -> tuple[float | None, float | None, float | None] | None:
    """Distances between slices, rows and columns where ImageJ or OME state them in a unit of length."""
    notes = file.imagej_metadata
    if not notes:
        return None
    unit = UNITS_MM.get(str(notes.get("unit", "")).strip().lower())
    resolution = _tag(image.page, 282), _tag(image.page, 283)
    if unit is None or not all(isinstance(value, tuple) and all(value) for value in resolution):
        return None
    column, row = (value[1] / value[0] * unit for value in resolution if isinstance(value, tuple))
    spacing = notes.get("spacing")
    between = float(spacing) * unit if isinstance(spacing, (int, float)) and spacing else None
    turned = image.layout.order.index(image.series.axes.index("Y")) > image.layout.order.index(
        image.series.axes.index("X")
    )
    return (between, column, row) if turned else (between, row, column)
