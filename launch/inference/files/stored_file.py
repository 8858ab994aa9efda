"""Files that are read as a whole by the readers of shards/image_files/, and written in their own format."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.launch.inference.files.opened import ArrayFacts, ArrayRows, OpenedFile, PixelRows, Result
from quell.launch.inference.files.stored_pixels import to_file
from quell.launch.inference.files.tiff_rows import check_one_file, rows_of
from quell.launch.inference.writers import array_copies, dicom_copies, nifti_copies, pillow_copies, tiff_copies
from quell.launch.inference.writers.array_copies import Replacement
from quell.shards.image_files.geometry import differences
from quell.shards.image_files.image import StoredImage
from quell.shards.image_files.read import read_file

PICTURES = ("png", "jpeg", "bmp", "webp", "tiff", "dicom")
"""Formats that say whether an image has colours; in the others that depends on the run."""
CONTAINERS = ("npz", "hdf5")
KSPACE, FROM_KSPACE = "kspace", "reconstruction"
"""The data set of a fastMRI file without reconstructions, and the name that images computed from it get."""
SAME_PLACE_MM = 0.5
"""Two slices that are restored together may be this far apart."""
ARRAYS = ("npy", *CONTAINERS)
_WRITE_PICTURE = {
    "png": pillow_copies.write_png,
    "jpeg": pillow_copies.write_jpeg,
    "webp": pillow_copies.write_webp,
    "bmp": pillow_copies.write_bmp,
}


class StoredFile(OpenedFile):
    """A file in one of the formats of shards/image_files/."""

    def __init__(self, path: Path, channels: int, slice_axis: int | None = None) -> None:
        """Read a file.

        Args:
            path: The file.
            slice_axis: The axis of the patient (0 to the right, 1 anterior, 2 superior) across the slices that NIfTI
                volumes are cut into; None: the one across the slices of the acquisition.
            channels: Of the images the run was trained on; a colour image whose three channels are equal is read as
                grey where this is 1.

        Raises:
            DataError: The file is damaged, not supported, or holds NaN or Inf.
        """
        super().__init__(path)
        self._channels, self._slice_axis = channels, slice_axis
        self._images: dict[str, StoredImage] | None = None
        images = self._load()
        self.format = next(iter(images.values())).format
        self.has_names = self.format in CONTAINERS
        if self.format == "dicom":
            self.series = _series_of(next(iter(images.values())))
        for name, image in images.items():
            array = self._array(image)
            self.facts[name] = ArrayFacts(array.shape, array.dtype, self._is_colour(image))

    def read(self, name: str) -> np.ndarray:
        """An array, in the shape of its facts."""
        return self._array(self._load()[name])

    def rows(self, name: str, stack_shape: tuple[int, int, int, int]) -> PixelRows:
        """An array to be read in parts; it is in memory as a whole."""
        return ArrayRows(self.read(name), stack_shape)

    def write(self, target: Path, results: Mapping[str, Result], description: str) -> list[str]:
        """Write a copy of the file in which arrays have other pixels."""
        images = self._load()
        if self.format in ARRAYS:
            return self._write_arrays(target, results, images)
        (result,) = results.values()
        image = images[result.of]
        stored = to_file(image, self._pixels(image, result))
        if self.format in _WRITE_PICTURE:
            return _WRITE_PICTURE[self.format](self.path, target, stored)
        if self.format == "tiff":
            return tiff_copies.write_tiff(self.path, target, rows_of(self.path, stored))
        if self.format == "dicom":
            frames = stored.reshape(-1, *stored.shape[-(3 if image.is_colour else 2) :])
            return dicom_copies.write_dicom(self.path, target, frames, description)
        return nifti_copies.write_nifti(self.path, target, stored)

    def as_stored(self, name: str, values: np.ndarray) -> np.ndarray:
        """Restored values in the dtype of the array they replace; only files of arrays say no more than that."""
        return in_dtype_of(values, self._load()[name].values.stored_dtype) if self.format in ARRAYS else values

    def check_writable(self) -> None:
        """Raise DataError where a copy could not hold what the file holds."""
        if self.format == "tiff":
            check_one_file(self.path)
        for image in self._load().values():
            values = image.values
            if image.format == "dicom" and (np.isnan(values.slope) or np.dtype(values.stored_dtype).kind == "f"):
                what = "a rescaling by table or by frame" if np.isnan(values.slope) else "floating-point pixels"
                raise DataError(f"{image.where}: DICOM with {what} cannot be written again; choose --format tif or npy")
            kind, is_palette = image.values.photometric.upper(), image.format == "tiff" and image.is_colour
            if kind == "CMYK" or (kind == "PALETTE" and is_palette):
                raise DataError(
                    f"{image.where}: restored images cannot be written as {kind} again; choose --format tif or png, "
                    "or convert the image to RGB"
                )

    def is_grey_in_colour(self, image: StoredImage) -> bool:
        """Whether a colour image is read as grey, because its channels are equal and the run knows grey images."""
        pixels = image.pixels
        is_candidate = self._channels == 1 and image.format in PICTURES and image.is_colour and pixels.shape[3] == 3
        return is_candidate and bool((pixels == pixels[..., :1]).all())

    def release(self) -> None:
        """Forget the pixels; they are read again when they are needed."""
        self._images = None

    def misalignment(self, other: "StoredFile") -> str:
        """What keeps the first image of this file from showing the same places as that of another; "" if nothing does.

        Only what both files state is compared.
        """
        mine, theirs = (next(iter(file._load().values())) for file in (self, other))
        found = differences(mine.geometry, theirs.geometry) if mine.pixels.shape[:3] == theirs.pixels.shape[:3] else []
        place, other_place = mine.frames[0].position_mm, theirs.frames[0].position_mm
        if not found and place is not None and other_place is not None:
            apart_mm = float(np.linalg.norm(np.subtract(place, other_place)))
            if apart_mm > SAME_PLACE_MM:
                found = [f"their first pixels are {apart_mm:.3g} mm apart"]
        return "; ".join(found)

    def _is_colour(self, image: StoredImage) -> bool:
        return image.format in PICTURES and image.is_colour and not self.is_grey_in_colour(image)

    def _load(self) -> dict[str, StoredImage]:
        if self._images is None:
            self._images = {image.name: image for image in read_file(self.path)}
        return self._images

    def _array(self, image: StoredImage) -> np.ndarray:
        if image.format in ARRAYS:  # which axes hold channels depends on the run
            return image.plain
        if image.format == "nifti":
            return self._slices(image.plain)
        pixels = image.pixels[..., 0] if self.is_grey_in_colour(image) else image.pixels
        return pixels if image.stack_axes else pixels[0]

    def _pixels(self, image: StoredImage, result: Result) -> np.ndarray:
        """Restored pixels in the shape of `image.pixels`."""
        array = _in_memory(result.pixels)
        if image.format == "nifti":
            return self._from_slices(array, image)
        if self.is_grey_in_colour(image):
            return np.repeat(array.reshape(*image.pixels.shape[:3], 1), 3, axis=-1)
        return array.reshape(image.pixels.shape)

    def _slices(self, volume: np.ndarray) -> np.ndarray:
        """A volume ([time,] z, x, y) as slices (N, H, W) across the slice axis, as the builder of NIfTI cuts it."""
        volume = np.moveaxis(np.moveaxis(volume, -3, -1), self._nifti_axis() - 3, -3)
        return volume.reshape(-1, *volume.shape[-2:])

    def _from_slices(self, slices: np.ndarray, image: StoredImage) -> np.ndarray:
        """The reverse of `_slices`, in the shape of `image.pixels`."""
        *time, depth, width, height = image.plain.shape
        sides = [width, height, depth]
        across = sides.pop(self._nifti_axis())
        volume = slices.reshape(*time, across, *sides)
        volume = np.moveaxis(np.moveaxis(volume, -3, self._nifti_axis() - 3), -1, -3)
        return volume.reshape(image.pixels.shape)

    def _nifti_axis(self) -> int:
        if self._slice_axis is None:
            from quell.shards.image_files.nifti import slice_axis

            found = slice_axis(self.path)
            self._slice_axis = 2 if found is None else found
        return self._slice_axis

    def _write_arrays(
        self, target: Path, results: Mapping[str, Result], images: Mapping[str, StoredImage]
    ) -> list[str]:
        replaced = Replacement()
        for name, (of, pixels) in results.items():
            values = _in_memory(pixels).reshape(self.facts[of].shape)
            values = self.as_stored(of, values)
            if of == KSPACE and self.format == "hdf5":
                replaced[name.replace(KSPACE, FROM_KSPACE)] = "", values
            else:
                replaced[name] = of, values
        if self.format == "npy":
            ((_, values),) = replaced.values()
            return array_copies.write_npy(self.path, target, values)
        write = array_copies.write_npz if self.format == "npz" else array_copies.write_hdf5
        return write(self.path, target, replaced, set(images) - {KSPACE})


def _series_of(image: StoredImage) -> object:
    """What slices of one volume have in common; None for a file that holds several frames."""
    if len(image.pixels) > 1:
        return None
    assert isinstance(image.source, list)
    (header,) = image.source
    names = ("PatientID", "SeriesInstanceUID", "ImageType", "EchoNumbers")
    return (str(image.path.parent), *(str(header.get(name, "")) for name in names))


def _in_memory(pixels: PixelRows) -> np.ndarray:
    """The array behind restored pixels; those of a file that is read as a whole are never elsewhere."""
    assert isinstance(pixels, ArrayRows)
    return pixels.array


def in_dtype_of(values: np.ndarray, stored_dtype: str) -> np.ndarray:
    """Restored values in the integer type, or the half precision, of their input; other floats are single precision."""
    dtype = np.dtype(stored_dtype)
    if dtype.kind in "iu" and values.dtype.kind == "f":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(dtype)
    return values.astype(dtype) if dtype == np.float16 and values.dtype.kind == "f" else values
