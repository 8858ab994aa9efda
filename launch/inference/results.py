"""Restored pixels between restoring and writing: in memory, or in a file where the image is too large for that."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quell.configs.errors import MachineError
from quell.launch.inference import file_formats
from quell.launch.inference.files.opened import ArrayRows, PixelRows, Result
from quell.launch.inference.inputs import RestorationJob
from quell.launch.inference.large_images import is_large, restore_in_parts
from quell.launch.inference.restorer import Layout, Restorer
from quell.launch.inference.targets import Target
from quell.launch.inference.units import Units


class RowsFile:
    """Restored rows in a temporary file without a name, in their order in the image."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        """Create the file in a folder, which is created too."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise MachineError(f"cannot write {folder} ({error.strerror or error}): choose another --output") from error
        self._layout, self.dtype = layout, np.dtype(np.float32)
        self.shape: tuple[int, ...] = tuple(layout)

    def write(self, image: int, top: int, block: np.ndarray) -> None:
        """Write rows (rows, W, C)."""
        self.dtype = block.dtype
        self._file.seek(self._position(image, top))
        self._file.write(np.ascontiguousarray(block).tobytes())

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        """Rows of one image: (rows, W, C)."""
        self._file.seek(self._position(image, top))
        count = (bottom - top) * self._layout.width * self._layout.channels
        data = self._file.read(count * self.dtype.itemsize)
        return np.frombuffer(data, self.dtype).reshape(bottom - top, self._layout.width, self._layout.channels)

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def _position(self, image: int, row: int) -> int:
        layout = self._layout
        return (image * layout.height + row) * layout.width * layout.channels * self.dtype.itemsize


class Results:
    """The restored images of one input, by job and output."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where large images are kept until they are written."""
        self._folder = folder
        self._pixels: dict[tuple[int, str], PixelRows] = {}
        self._files: list[RowsFile] = []

    def of(self, job: int, output: str) -> PixelRows:
        """The pixels of one output."""
        return self._pixels[job, output]

    def close(self) -> None:
        """Forget all pixels."""
        for file in self._files:
            file.close()
        self._files, self._pixels = [], {}

    def restore(
        self,
        number: int,
        job: RestorationJob,
        layout: Layout,
        units: Mapping[str, Units],
        restorer: Restorer,
        source: str,
    ) -> float:
        """Restore one job; the greatest magnitude of its noisy images, in the units of its files."""
        if is_large(layout):
            self._restore_in_parts(number, job, layout, units, restorer, source)
            return 0.0
        stored = {name: ref.file.read(ref.name) for name, ref in job.arrays.items()}
        arrays = {name: units[name].to_training(array) for name, array in stored.items()}
        for output, restored in restorer.restore(arrays, source).items():
            field = restorer.outputs[output].noisy
            self._pixels[number, output] = ArrayRows(units[field].to_file(restored), layout)
        return max(float(np.abs(array).max()) for array in stored.values())

    def _restore_in_parts(
        self,
        number: int,
        job: RestorationJob,
        layout: Layout,
        units: Mapping[str, Units],
        restorer: Restorer,
        source: str,
    ) -> None:
        fields = {name: _InUnits(ref.file.rows(ref.name, layout), units[name]) for name, ref in job.arrays.items()}
        arrays: dict[str, np.ndarray] = {}
        files: dict[str, RowsFile] = {}

        def write(output: str, image: int, top: int, rows_HWC: np.ndarray) -> None:
            noisy = restorer.outputs[output].noisy
            block = units[noisy].to_file(rows_HWC)
            if job.arrays[noisy].file.is_large:
                if output not in files:
                    files[output] = RowsFile(self._folder, layout)
                    self._files.append(files[output])
                files[output].write(image, top, block)
                return
            array = arrays.setdefault(output, np.empty(layout, block.dtype))
            array[image, top : top + len(block)] = block

        restore_in_parts(restorer, fields, layout, source, write)
        for output, array in arrays.items():
            ref = job.arrays[restorer.outputs[output].noisy]
            self._pixels[number, output] = ArrayRows(array.reshape(ref.shape), layout)
        self._pixels |= {(number, output): file for output, file in files.items()}


class _InUnits:
    """Rows of a file in the units of the training images."""

    def __init__(self, rows: PixelRows, units: Units) -> None:
        self._rows, self._units = rows, units
        self.shape = rows.shape
        self.dtype = rows.dtype if units.is_identity else np.dtype(np.float32)

    def rows(self, image: int, top: int, bottom: int) -> np.ndarray:
        return self._units.to_training(self._rows.rows(image, top, bottom))


def write_target(
    target: Target,
    results: Results,
    description: str,
    *,
    colour: bool,
    white: float,
) -> tuple[list[Path], list[str]]:
    """Write one file under a hidden name and rename it, so that its name never refers to a half-written image.

    Args:
        target: What to write.
        results: The restored images.
        description: What was done, for formats that record it.
        colour: Whether the last axis holds channels, where another format is written.
        white: The value shown as white where float or complex arrays become a PNG.

    Returns:
        The files written, and what could not be kept.

    Raises:
        MachineError: It cannot be written.
    """
    if not target.is_same:
        (part,) = target.parts
        array = in_memory(results.of(part.job, part.output))
        notes = file_formats.png_losses(array, colour=colour) if target.path.suffix == ".png" else []
        return file_formats.write(target.path, array, colour=colour, white=white), notes
    parts = {part.name: Result(part.array, results.of(part.job, part.output)) for part in target.parts}
    temporary = target.path.with_name(f".{target.path.name}")
    try:
        target.path.parent.mkdir(parents=True, exist_ok=True)
        notes = target.source.write(temporary, parts, description)
        _replace(temporary, target.path)
    except OSError as error:
        raise MachineError(
            f"cannot write {target.path} ({error.strerror or error}): free space, or choose another --output"
        ) from error
    finally:
        _remove(temporary)
    return [target.path], notes


def in_memory(pixels: PixelRows) -> np.ndarray:
    """All pixels of an array as one."""
    if isinstance(pixels, ArrayRows):
        return pixels.array
    images, height, _, channels = pixels.shape
    array = np.stack([pixels.rows(i, 0, height) for i in range(images)])
    array = array if channels > 1 else array[..., 0]
    return array if images > 1 else array[0]


def _replace(temporary: Path, path: Path) -> None:
    if temporary.is_dir() and path.exists():
        _remove(path)
    os.replace(temporary, path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
