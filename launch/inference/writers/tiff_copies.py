"""Copies of TIFF files with other pixels.

The source is copied whole, and the strips or tiles of the restored pages are then replaced in the copy. So every tag
stays as it is (ImageJ and OME metadata, resolution, orientation, profiles, private tags), and only a row of tiles is in
memory at a time.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.writers.tiff_segments import Encoder, segment_rows
from quell.shards.image_files.tiff import describe

StoredRows = Callable[[int, int, int], np.ndarray]
"""(page, first row, row after the last) -> (rows, W, samples) in the dtype of the file."""

_OFFSETS, _BYTE_COUNTS = {False: 273, True: 324}, {False: 279, True: 325}
"""Numbers of the tags of strips (False) and of tiles (True)."""
_LONG = 4
_CLASSIC_LIMIT = 2**32
_BAND_BYTES = 1 << 24


def write_tiff(source: Path, target: Path, rows: StoredRows) -> list[str]:
    """Write a TIFF in which the pages of the image have other pixels.

    Args:
        source: The file to copy. Further images in it, which are thumbnails, stay as they are.
        target: Where to write.
        rows: The new pixels of each page, asked for from top to bottom.

    Returns:
        What could not be kept, one sentence each.

    Raises:
        DataError: Its values have a depth that cannot be written, or the copy would exceed 4 GB.
    """
    import tifffile

    shutil.copyfile(source, target)
    os.chmod(target, target.stat().st_mode | 0o200)
    notes: dict[str, None] = {}
    with tifffile.TiffFile(target, mode="r+") as file:
        series: Any = describe(file, source).series
        if len(file.series) > 1:
            notes["thumbnails in it are as they were"] = None
        if series.dataoffset is not None:
            _write_contiguous(file, series, rows)
            return list(notes)
        for number, page in enumerate(series.pages):
            if page is None:
                continue
            if (note := _replace_page(file, page.aspage(), number, rows)) is not None:
                notes[note] = None
        if len(series.levels) > 1:
            notes["its smaller copies (levels) were made from the restored pixels"] = None
            for level in series.levels[1:]:
                for number, page in enumerate(level.pages):
                    _replace_page(file, page.aspage(), number, _reduced(series, level, rows))
    return list(notes)


def _write_contiguous(file: Any, series: Any, rows: StoredRows) -> None:
    """Replace uncompressed pixels that follow one another, as in ImageJ's stacks, of which only the first has tags."""
    page = series.keyframe
    dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
    apart = page.planarconfig == 2 and page.samplesperpixel > 1
    count = series.size // (page.imagelength * page.imagewidth * page.samplesperpixel)
    row_bytes = page.imagewidth * dtype.itemsize * (1 if apart else page.samplesperpixel)
    band = max(1, _BAND_BYTES // row_bytes)
    for number in range(count):
        start = series.dataoffset + number * page.imagelength * page.imagewidth * page.samplesperpixel * dtype.itemsize
        for top in range(0, page.imagelength, band):
            block = np.asarray(rows(number, top, min(top + band, page.imagelength)), dtype)
            for sample in range(page.samplesperpixel if apart else 1):
                file.filehandle.seek(start + (sample * page.imagelength + top) * row_bytes)
                part = block[..., sample] if apart else block
                file.filehandle.write(np.ascontiguousarray(part).tobytes())


def _replace_page(file: Any, page: Any, number: int, rows: StoredRows) -> str | None:
    """Encode and replace the segments of a page; what could not be kept, or None."""
    offsets, byte_counts = list(page.dataoffsets), list(page.databytecounts)
    used: set[int] = set()
    encoder = None
    for row in segment_rows(page):
        top, height = row[0].top, row[0].shape[0]
        band = rows(number, top, min(top + height, page.imagelength))
        for segment in row:
            block = band[:, segment.left : segment.left + segment.shape[1]]
            if page.planarconfig == 2 and page.samplesperpixel > 1:
                block = block[..., segment.sample : segment.sample + 1]
            missing = (segment.shape[0] - block.shape[0], segment.shape[1] - block.shape[1])
            if any(missing):
                block = np.pad(block, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
            encoder = encoder or Encoder(page, file.byteorder, block)
            data = encoder(block)
            i = segment.number
            if len(data) > byte_counts[i] or offsets[i] in used:
                offsets[i] = _end(file)
            used.add(offsets[i])
            file.filehandle.seek(offsets[i])
            file.filehandle.write(data)
            byte_counts[i] = len(data)
    assert encoder is not None
    for code, value in encoder.changed_tags.items():
        if (tag := page.tags.get(code)) is not None:
            tag.overwrite(value)
    _overwrite(page, _OFFSETS[page.is_tiled], offsets)
    _overwrite(page, _BYTE_COUNTS[page.is_tiled], byte_counts)
    return encoder.note or None


def _end(file: Any) -> int:
    """Where the next segment goes: the end of the file, on an even byte."""
    end = file.filehandle.seek(0, os.SEEK_END)
    if end % 2:
        file.filehandle.write(b"\0")
        end += 1
    if not file.is_bigtiff and end >= _CLASSIC_LIMIT:
        raise DataError("the copy would exceed 4 GB, which only BigTIFF can hold: convert the input to BigTIFF")
    return int(end)


def _overwrite(page: Any, code: int, values: list[int]) -> None:
    tag = page.tags.get(code)
    if tag is None:  # a strip whose length follows from the size of the page
        return
    old = tag.value if isinstance(tag.value, tuple) else (tag.value,)
    if tuple(values) == tuple(old):
        return
    fits = max(values) < 2**16 or tag.dtype != 3
    tag.overwrite(values[0] if len(values) == 1 else tuple(values), dtype=None if fits else _LONG)


def _reduced(series: Any, level: Any, rows: StoredRows) -> StoredRows:
    """The pixels of a smaller level: means over blocks of the full one."""
    full, small = series.keyframe, level.keyframe
    down = max(1, round(full.imagelength / small.imagelength))
    across = max(1, round(full.imagewidth / small.imagewidth))

    def reduced(page: int, top: int, bottom: int) -> np.ndarray:
        last = min(bottom * down, full.imagelength)
        first = min(top * down, last - 1)
        block = np.asarray(rows(page, first, last))
        wanted = ((bottom - top) * down, small.imagewidth * across)
        block = block[:, : wanted[1]]
        missing = (max(0, wanted[0] - block.shape[0]), max(0, wanted[1] - block.shape[1]))
        block = np.pad(block, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        shape = (bottom - top, down, small.imagewidth, across, block.shape[-1])
        means = block.reshape(shape).mean(axis=(1, 3), dtype=np.float64)
        return (np.rint(means) if block.dtype.kind in "ui" else means).astype(block.dtype)

    return reduced
