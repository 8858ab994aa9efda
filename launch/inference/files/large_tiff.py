"""TIFF files that are too large for memory: read and written by rows of strips or tiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.opened import ArrayFacts, OpenedFile, PixelRows, Result
from quell.launch.inference.files.tiff_rows import numbers_of
from quell.launch.inference.writers.tiff_copies import write_tiff
from quell.launch.inference.writers.tiff_segments import segment_rows
from quell.shards.image_files.tiff import TiffImage, describe


class LargeTiff(OpenedFile):
    """A TIFF file of grey or RGB images. An orientation tag is kept and not applied: it is restored as it is stored."""

    format = "tiff"
    is_large = True

    def __init__(self, path: Path) -> None:
        """Open a file without reading its pixels. Raises DataError where it is damaged or not supported."""
        super().__init__(path)
        self._opened: _Open | None = None
        image = self._open().image
        page: Any = image.page
        series = image.series
        images = int(np.prod([length for _, length in image.stack_axes]))
        channels = (page.samplesperpixel,) if "S" in series.axes else ()
        shape = (page.imagelength, page.imagewidth, *channels)
        # the photometric interpretation does not change the dtype of these
        dtype = np.dtype(image.meaning.values.stored_dtype)
        self.facts[""] = ArrayFacts((images, *shape) if image.stack_axes else shape, dtype, bool(channels))
        self._images, self._height = images, page.imagelength

    @classmethod
    def suits(cls, path: Path) -> bool:
        """Whether a file can be read in parts: grey or RGB without opacity, of whole bytes."""
        import tifffile

        try:
            with tifffile.TiffFile(path) as file:
                image = describe(file, path)
                page: Any = image.page
                kind = image.meaning.values.photometric
                is_plain = not image.meaning.has_alpha and page.bitspersample in (8, 16, 32, 64, 128)
                return is_plain and kind not in ("PALETTE", "CMYK")
        except Exception:  # the reader says what is wrong
            return False

    def read(self, name: str) -> np.ndarray:
        """All pixels at once; for small files only."""
        reader = _Rows(self._open(), self.facts[name])
        return np.stack([reader.rows(i, 0, self._height) for i in range(self._images)]).reshape(self.facts[name].shape)

    def rows(self, name: str, stack_shape: tuple[int, int, int, int]) -> PixelRows:
        """The pixels, decoded as they are asked for."""
        return _Rows(self._open(), self.facts[name])

    def write(self, target: Path, results: Mapping[str, Result], description: str) -> list[str]:
        """Write a copy of the file with other pixels."""
        (result,) = results.values()
        image = self._open().image
        values, dtype = image.meaning.values, np.dtype(image.page.dtype)
        convert = numbers_of(image.page)

        def rows(page: int, top: int, bottom: int) -> np.ndarray:
            block = result.pixels.rows(page, top, bottom)
            stored = values.to_stored(block) if values.inverted or block.dtype != dtype else block
            if dtype.kind in "iu" and stored.dtype.kind == "f":
                stored = np.clip(np.rint(stored), np.iinfo(dtype).min, np.iinfo(dtype).max)
            return convert(stored.astype(dtype).reshape(bottom - top, block.shape[1], -1))

        return write_tiff(self.path, target, rows)

    def release(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._opened is not None:
            self._opened.file.close()
        self._opened = None

    def _open(self) -> "_Open":
        import tifffile

        if self._opened is not None:
            return self._opened
        try:
            file = tifffile.TiffFile(self.path)
            self._opened = _Open(file, describe(file, self.path))
        except DataError:
            raise
        except Exception as error:  # tifffile raises many types on damaged files
            raise DataError(f"{self.path}: cannot be read as TIFF ({' '.join(str(error).split())})") from error
        return self._opened


class _Open(NamedTuple):
    """An open file, and how its image is stored."""

    file: Any
    image: TiffImage


class _Rows:
    """The pixels of an open TIFF file; the row of segments that was decoded last is kept, as rows come in order."""

    def __init__(self, opened: _Open, facts: ArrayFacts) -> None:
        self.shape, self.dtype = facts.shape, facts.dtype
        self._file, self._image = opened
        self._decoded: tuple[int, dict[int, np.ndarray]] = (-1, {})
        self._page: Any = None

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        """Rows of one image: (rows, W), or (rows, W, C)."""
        series: Any = self._image.series
        page = self._image.page
        if series.dataoffset is not None:
            block = self._contiguous(image, top, bottom)
        else:
            if self._decoded[0] != image:
                self._decoded, self._page = (image, {}), series.pages[image].aspage()
            block = self._segments(top, bottom)
        pixels = self._image.meaning.decode(block)
        return pixels if page.samplesperpixel > 1 and "S" in series.axes else pixels[..., 0]

    def _contiguous(self, image: int, top: int, bottom: int) -> np.ndarray:
        page, dtype = self._image.page, np.dtype(self._image.series.dtype).newbyteorder(self._file.byteorder)
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        apart = page.planarconfig == 2 and samples > 1
        start = self._image.series.dataoffset + image * height * width * samples * dtype.itemsize
        row = width * (1 if apart else samples)
        parts = []
        for sample in range(samples if apart else 1):
            self._file.filehandle.seek(start + (sample * height + top) * row * dtype.itemsize)
            data = self._file.filehandle.read((bottom - top) * row * dtype.itemsize)
            parts.append(np.frombuffer(data, dtype).reshape(bottom - top, width, -1))
        return np.concatenate(parts, axis=-1) if apart else parts[0]

    def _segments(self, top: int, bottom: int) -> np.ndarray:
        page, decoded = self._page, self._decoded[1]
        rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        wanted = range(top // rows, (bottom - 1) // rows + 1)
        for number in [number for number in decoded if number not in wanted]:
            del decoded[number]
        for number, row in enumerate(segment_rows(page)):
            if number in wanted and number not in decoded:
                decoded[number] = self._decode(row)
        first = wanted[0] * rows
        block = np.concatenate([decoded[number] for number in wanted])
        return block[top - first : bottom - first]

    def _decode(self, row: list[Any]) -> np.ndarray:
        """One row of tiles, or one strip: (rows, W, samples)."""
        page = self._page
        apart = page.planarconfig == 2 and page.samplesperpixel > 1
        height = min(row[0].shape[0], page.imagelength - row[0].top)
        block = np.zeros((height, page.imagewidth, page.samplesperpixel), page.dtype)
        for segment in row:
            self._file.filehandle.seek(page.dataoffsets[segment.number])
            data = self._file.filehandle.read(page.databytecounts[segment.number])
            pixels, _, _ = page.decode(data, segment.number, jpegtables=page.jpegtables)
            if pixels is None:  # a sparse tile
                continue
            part = pixels[0, :height, : page.imagewidth - segment.left]
            samples = slice(segment.sample, segment.sample + 1) if apart else slice(None)
            block[:, segment.left : segment.left + part.shape[1], samples] = part
        return block
