"""The published HDF5 files of fastMRI: description, reconstructions, and images from k-space."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files import coils
from quell.shards.image_files.coils import CombinedCoils
from quell.shards.image_files.errors import reading
from quell.shards.listing.finite import check_finite

RECONSTRUCTIONS = ("reconstruction_esc", "reconstruction_rss")
"""Data sets of magnitude images, the preferred one first: single-coil files hold both, and the emulated single coil is
their target; multi-coil files hold the root sum of squares only."""
CONTRASTS = {"CORPD_FBK": "pd", "CORPDFS_FBK": "pdfs"}
"""fastMRI's names of knee acquisitions -> names of fields."""
CROP_PX = 320


@dataclass(frozen=True)
class FastmriVolume:
    """What a fastMRI file says about itself."""

    path: Path
    contrast: str
    """pd, pdfs, or the acquisition as the file names it."""
    patient: str
    """patient_id, or the name of the file where there is none."""
    slices: int


def read_description(path: Path) -> FastmriVolume:
    """Read contrast, patient and number of slices. Raises DataError for a file that is not from fastMRI."""
    with _open(path) as file:
        name = _reconstruction(file)
        if name is None and "kspace" not in file:
            expected = ", ".join((*RECONSTRUCTIONS, "kspace"))
            raise DataError(f"{path}: not a fastMRI file; expected at least one of the data sets {expected}")
        acquisition = _text(file.attrs.get("acquisition", "unknown"))
        patient = _text(file.attrs.get("patient_id", path.stem))
        return FastmriVolume(
            path, CONTRASTS.get(acquisition, acquisition), patient, int(file[name or "kspace"].shape[0])
        )


def read_magnitude(path: Path, slices: slice | list[int] = slice(None)) -> np.ndarray:
    """Read magnitude images of a fastMRI file.

    They are the stored reconstructions, or else the root sum of squares over coils of images computed from k-space.

    Args:
        path: A fastMRI file.
        slices: Which slices to read.

    Returns:
        float32 (slices, H, W), in the units of the file.

    Raises:
        DataError: The file is damaged, or holds something else under these names.
    """
    with _open(path) as file:
        name = _reconstruction(file)
        stored = _read(file, name or "kspace", slices, path)
    if name is None:
        images = _from_kspace(stored)
        stored = np.sqrt((np.abs(images) ** 2).sum(axis=1)) if images.ndim == 4 else np.abs(images)
    elif stored.ndim != 3:
        raise DataError(f"{path}: {name}: expected magnitudes (slices, H, W), got shape {stored.shape}")
    images = stored.astype(np.float32)
    check_finite(images, f"{path}: {name or 'kspace'}")
    return images


def read_complex(path: Path) -> np.ndarray:
    """Complex images, complex64 (slices, H, W), from single-coil k-space. Raises DataError for multi-coil k-space."""
    with _open(path) as file:
        if "kspace" not in file:
            raise DataError(f"{path}: missing 'kspace', which complex images are computed from; omit --complex")
        if file["kspace"].ndim != 3:
            raise DataError(
                f"{path}: expected k-space of a single coil, got {file['kspace'].shape[1]} coils (see read_combined)"
            )
        images = _from_kspace(_read(file, "kspace", slice(None), path)).astype(np.complex64)
    check_finite(images, f"{path}: kspace")
    return images


def read_combined(path: Path) -> CombinedCoils:
    """Combine the coils of multi-coil k-space to complex images of known noise, cropped to the central 320 x 320.

    Raises:
        DataError: There is no multi-coil k-space, or it cannot be combined (see `coils.combine`).
    """
    with _open(path) as file:
        if not has_coils(file):
            raise DataError(f"{path}: missing 'kspace' of several coils (slices, coils, H, W)")
        kspace = _read(file, "kspace", slice(None), path)
    check_finite(kspace, f"{path}: kspace", "slice,coil,row,column")
    combined = coils.combine(kspace, str(path))
    return replace(combined, images=_crop(combined.images).astype(np.complex64))


def is_multi_coil(path: Path) -> bool:
    """Whether a fastMRI file holds k-space of several coils."""
    with _open(path) as file:
        return has_coils(file)


def has_coils(file: h5py.File) -> bool:
    """Whether an open fastMRI file holds k-space of several coils."""
    return isinstance(file.get("kspace"), h5py.Dataset) and file["kspace"].ndim == 4


def is_fastmri(path: Path) -> bool:
    """Whether a file has the layout of fastMRI. Raises DataError for one that is not HDF5."""
    with _open(path) as file:
        return _reconstruction(file) is not None or isinstance(file.get("kspace"), h5py.Dataset)


def image_name(path: Path) -> str:
    """What `read_magnitude` reads: the name of a reconstruction, or kspace."""
    with _open(path) as file:
        return _reconstruction(file) or "kspace"


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    with reading(path, "not a readable HDF5 file"), h5py.File(path, "r") as file:
        yield file


def _read(file: h5py.File, name: str, slices: slice | list[int], path: Path) -> np.ndarray:
    with reading(path, f"{name} cannot be read"):
        array = np.asarray(file[name][slices])
    kinds = "c" if name == "kspace" else "uif"
    if array.dtype.kind not in kinds or not 3 <= array.ndim <= 4 or 0 in array.shape:
        what = "complex numbers (slices, [coils,] H, W)" if name == "kspace" else "magnitudes (slices, H, W)"
        raise DataError(f"{path}: {name}: expected {what}, got shape {array.shape} of {array.dtype}")
    return array


def _reconstruction(file: h5py.File) -> str | None:
    names = RECONSTRUCTIONS
    if has_coils(file):  # several coils, of which esc is no sum
        names = RECONSTRUCTIONS[::-1]
    return next((name for name in names if isinstance(file.get(name), h5py.Dataset)), None)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_kspace(kspace: np.ndarray) -> np.ndarray:
    """Centred orthonormal inverse FFT over the last two axes, cropped to the central 320 x 320.

    The crop removes the oversampling of the readout, as fastMRI's own reconstructions do.
    """
    return _crop(coils.to_images(kspace))


def _crop(images: np.ndarray) -> np.ndarray:
    """The central 320 x 320 pixels."""
    top, left = ((side - min(side, CROP_PX)) // 2 for side in images.shape[-2:])
    return images[..., top : top + min(images.shape[-2], CROP_PX), left : left + min(images.shape[-1], CROP_PX)]
