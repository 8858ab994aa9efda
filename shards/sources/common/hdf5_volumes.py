"""MRI volumes in HDF5: the published files of fastMRI, and files in which every data set is one slice."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from configs.errors import DataError

RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")
"""Data sets of magnitude images in a fastMRI file, the preferred one first."""
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
    """
    with _open(path) as file:
        name = _reconstruction(file)
        if name is not None:
            return np.asarray(file[name][slices], dtype=np.float32)
        images = _from_kspace(np.asarray(file["kspace"][slices]))
    return np.asarray(np.sqrt((np.abs(images) ** 2).sum(axis=1)) if images.ndim == 4 else np.abs(images), np.float32)


def read_complex(path: Path) -> np.ndarray:
    """Complex images, complex64 (slices, H, W), from single-coil k-space. Raises DataError for multi-coil k-space."""
    with _open(path) as file:
        if "kspace" not in file:
            raise DataError(f"{path}: missing 'kspace', which complex images are computed from; omit --complex")
        if file["kspace"].ndim != 3:
            raise DataError(
                f"{path}: expected single-coil k-space, got {file['kspace'].shape[1]} coils, which cannot be combined "
                "to complex images without sensitivity maps; omit --complex"
            )
        return _from_kspace(np.asarray(file["kspace"])).astype(np.complex64)


def read_slices(path: Path, groups: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read a file in which every data set is one slice.

    Args:
        path: An HDF5 file.
        groups: Read the first of these groups that exists, instead of the top level.

    Returns:
        Name of the data set -> complex64 or float32 (H, W); empty where none of the groups exists.
    """
    with _open(path) as file:
        parent: h5py.Group | None = file
        if groups:
            parent = next((file[name] for name in groups if isinstance(file.get(name), h5py.Group)), None)
        return {
            str(key): _as_slice(np.asarray(value), f"{path}: {key}")
            for key, value in (parent.items() if parent is not None else ())
            if isinstance(value, h5py.Dataset)
        }


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error


def _reconstruction(file: h5py.File) -> str | None:
    return next((name for name in RECONSTRUCTIONS if name in file), None)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_kspace(kspace: np.ndarray) -> np.ndarray:
    """Centred orthonormal inverse FFT over the last two axes, cropped to the central 320 x 320.

    The crop removes the oversampling of the readout, as fastMRI's own reconstructions do.
    """
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    top, left = ((side - min(side, CROP_PX)) // 2 for side in images.shape[-2:])
    return images[..., top : top + min(images.shape[-2], CROP_PX), left : left + min(images.shape[-1], CROP_PX)]


def _as_slice(array: np.ndarray, where: str) -> np.ndarray:
    """A slice from a complex or real array, or a real one with a last axis (re, im); a first axis of 1 is dropped."""
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 2 and array.dtype.kind == "f":
        array = array[..., 0] + 1j * array[..., 1]
    if array.ndim != 2 or array.dtype.kind not in "fciu":
        raise DataError(f"{where}: expected one slice (H, W), got shape {array.shape} of {array.dtype}")
    return array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
