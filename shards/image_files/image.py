"""What reading an image file gives: pixels with named axes, the meaning of their values, their place, their origin."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files.geometry import Geometry


@dataclass(frozen=True)
class Values:
    """How the numbers of a file become those of `StoredImage.pixels`."""

    stored_dtype: str
    """numpy's name of the dtype in the file, without byte order."""
    photometric: str = "grey"
    """What the format calls it: MINISWHITE, palette, MONOCHROME1, RGB, CMYK, ..."""
    inverted: bool = False
    """Whether the file stores white as its smallest number; the pixels have been turned round."""
    inverted_around: float = 0.0
    """The sum of a stored number and its inverse, such as 255."""
    bits_stored: int | None = None
    """Bits of a stored number that may be used; None for floats and where the format does not say."""
    slope: float = 1.0
    """Applied already, as is `intercept`: pixels = stored * slope + intercept. NaN where slices differ."""
    intercept: float = 0.0
    window: tuple[float, float] | None = None
    """The lowest and highest value to display, in the units of the pixels, where the file names them."""
    unit: str = ""
    """Unit of the pixels, such as HU, where the file states one."""

    def to_stored(self, pixels: np.ndarray) -> np.ndarray:
        """The numbers that a file with the same meaning stores for `pixels`: float64 (or complex128), unrounded."""
        wide = pixels.astype(np.complex128 if pixels.dtype.kind == "c" else np.float64)
        stored = (wide - self.intercept) / self.slope
        return self.inverted_around - stored if self.inverted else stored


class Frame(NamedTuple):
    """Origin of one slice, page or frame."""

    path: Path
    number: int
    """Number of the page or frame inside the file, from 0."""
    identifier: str
    """What tells it apart in the file: 't=0 z=3', 'instance 12', ..."""
    position_mm: tuple[float, float, float] | None = None
    """Centre of the first pixel, in the coordinates of Geometry.affine."""


class DataRange(NamedTuple):
    """The range of the values that training reads, according to the format's own facts."""

    value: float
    reason: str
    """Where it comes from: '12 of 16 bits are used'."""


@dataclass(frozen=True)
class StoredImage:
    """One image or stack of images from a file, or one series from several files."""

    pixels: np.ndarray
    """(S, H, W) or (S, H, W, C): slices, pages or frames; rows; columns; colours or other channels. In the byte order
    of the machine; dtype as stored, or a float one where the file states a slope and intercept."""
    path: Path
    """The file, or the folder of a series."""
    format: str
    """png, jpeg, bmp, webp, tiff, dicom, nifti, hdf5, npy or npz."""
    values: Values
    geometry: Geometry
    frames: tuple[Frame, ...]
    """Origin of each of the S slices."""
    stack_axes: tuple[tuple[str, int], ...] = ()
    """Letter and length of the file's own axes in front of rows and columns; S is their product. Empty for a single
    image. T: time, Z: slices, C: channels that are no colours, N: pages of unknown meaning."""
    alpha: np.ndarray | None = None
    """(S, H, W): opacity, in the dtype of the pixels, where the file has any; full opacity is the dtype's maximum."""
    name: str = ""
    """Name of the array in a file that holds several."""
    source: object = field(default=None, repr=False)
    """The header that a writer of the same format needs; see the format's reader."""

    @property
    def where(self) -> str:
        """The file, and the name of the array in it, for messages."""
        return f"{self.path}: {self.name}" if self.name else str(self.path)

    @property
    def is_colour(self) -> bool:
        """Whether the pixels have an axis of channels."""
        return self.pixels.ndim == 4

    @property
    def plain(self) -> np.ndarray:
        """The pixels in the natural shape of the file: (H, W), (H, W, C), or with `stack_axes` in front."""
        lengths = [length for _, length in self.stack_axes]
        return self.pixels.reshape(lengths + list(self.pixels.shape[1:]))

    @property
    def is_opaque(self) -> bool:
        """Whether no pixel is transparent, even in part."""
        if self.alpha is None:
            return True
        full = np.iinfo(self.alpha.dtype).max if self.alpha.dtype.kind == "u" else 1
        return bool((self.alpha == full).all())

    def to_file_layout(self, pixels: np.ndarray) -> np.ndarray:
        """Turn an array of the shape of `pixels` back to the axes of the file, with its opacity."""
        if self.alpha is not None:
            colours = pixels if pixels.ndim == 4 else pixels[..., None]
            pixels = np.concatenate([colours, self.alpha[..., None].astype(pixels.dtype)], axis=-1)
        lengths = [length for _, length in self.stack_axes]
        return self.geometry.layout.undo(pixels.reshape(lengths + list(pixels.shape[1:])))

    def single(self) -> np.ndarray:
        """The only image of the file, (H, W) or (H, W, C). Raises DataError for a stack or for transparency."""
        if len(self.pixels) != 1:
            axes = " x ".join(f"{letter} {length}" for letter, length in self.stack_axes)
            raise DataError(f"{self.where}: holds a stack of {len(self.pixels)} images ({axes}); expected one image")
        self.check_opaque()
        return self.pixels[0]

    def check_opaque(self) -> None:
        """Raise DataError naming the first pixel that is transparent, if any."""
        if self.alpha is None or self.is_opaque:
            return
        full = np.iinfo(self.alpha.dtype).max if self.alpha.dtype.kind == "u" else 1
        clear = self.alpha != full
        place = np.argwhere(clear)[0].tolist()
        raise DataError(
            f"{self.where}: {int(clear.sum())} of {clear.size} pixels are transparent (the first in slice {place[0]}, "
            f"row {place[1]}, column {place[2]}), so their colours mean nothing; flatten it onto a background first"
        )


def suggested_data_range(image: StoredImage) -> DataRange | None:
    """The data range that the facts of the format suggest, in the units in which training reads the shards.

    8- and 16-bit unsigned integers are divided by their maximum when they are read. None where the file says nothing
    that tells the range: 16-bit numbers of which all bits may be used often hold 12, and floats may hold anything.
    """
    values, dtype = image.values, image.pixels.dtype
    if dtype == np.uint8:
        return DataRange(1.0, "8-bit images")
    container = 8 * np.dtype(values.stored_dtype).itemsize
    if values.bits_stored is not None and values.bits_stored < container and np.isfinite(values.slope):
        unit = np.iinfo(dtype).max if dtype == np.uint16 else 1
        reason = f"{values.bits_stored} of {container} bits are used"
        return DataRange((2**values.bits_stored - 1) * abs(values.slope) / unit, reason)
    if values.window is not None and dtype.kind == "f":
        low, high = values.window
        return DataRange(high - low, f"the file names the range to display, {low:g} to {high:g}")
    return None
