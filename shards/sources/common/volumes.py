"""MRI volumes in HDF5: fastMRI's files and files whose every dataset is a slice -> complex or magnitude slices."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from configs.errors import DataError

RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")
CONTRASTS = {"CORPD_FBK": "pd", "CORPDFS_FBK": "pdfs"}
CROP_PX = 320


@dataclass(frozen=True)
class Volume:
    """What a fastMRI file says about itself."""

    path: Path
    contrast: str
    """pd, pdfs or the file's own word."""
    patient: str
    """patient_id, or the file's name where there is none."""
    slices: int


def describe(path: Path) -> Volume:
    """Contrast, patient and number of slices. Raises DataError for a file that is not fastMRI's."""
    with _opened(path) as file:
        name = _reconstruction(file)
        if name is None and "kspace" not in file:
            raise DataError(f"{path}: neither {' nor '.join(RECONSTRUCTIONS)} nor kspace; not a fastMRI file")
        acquisition = _text(file.attrs.get("acquisition", "unknown"))
        patient = _text(file.attrs.get("patient_id", path.stem))
        return Volume(path, CONTRASTS.get(acquisition, acquisition), patient, int(file[name or "kspace"].shape[0]))


def magnitude(path: Path, slices: slice | list[int] = slice(None)) -> np.ndarray:
    """Reconstructed magnitudes float32 (slices, H, W) in the file's units; from k-space where none are stored."""
    with _opened(path) as file:
        name = _reconstruction(file)
        if name is not None:
            return np.asarray(file[name][slices], dtype=np.float32)
        images = _from_kspace(np.asarray(file["kspace"][slices]))
    return np.asarray(np.sqrt((np.abs(images) ** 2).sum(axis=1)) if images.ndim == 4 else np.abs(images), np.float32)


def complex_images(path: Path) -> np.ndarray:
    """Complex images complex64 (slices, H, W) from single-coil k-space. Raises DataError for several coils."""
    with _opened(path) as file:
        if "kspace" not in file:
            raise DataError(f"{path}: complex images need kspace, which this file lacks; leave out --complex")
        if file["kspace"].ndim != 3:
            raise DataError(
                f"{path}: {file['kspace'].shape[1]} coils; their complex images cannot be combined without "
                "sensitivity maps, leave out --complex"
            )
        return _from_kspace(np.asarray(file["kspace"])).astype(np.complex64)


def keyed_slices(path: Path, inside: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Datasets of a file by name, each one slice, complex64 or float32 (H, W); of the group `inside` where one of these
    names is given (the first that exists, else nothing).
    """
    with _opened(path) as file:
        place: Any = file
        if inside:
            place = next((file[name] for name in inside if isinstance(file.get(name), h5py.Group)), {})
        return {
            str(key): _as_slice(np.asarray(value), f"{path}: {key}")
            for key, value in place.items()
            if isinstance(value, h5py.Dataset)
        }


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error


def _reconstruction(file: h5py.File) -> str | None:
    return next((name for name in RECONSTRUCTIONS if name in file), None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _from_kspace(kspace: np.ndarray) -> np.ndarray:
    """Centred orthonormal inverse FFT over the last two axes, cut to the centre 320 x 320 (oversampling removed)."""
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    top, left = ((side - min(side, CROP_PX)) // 2 for side in images.shape[-2:])
    return images[..., top : top + min(images.shape[-2], CROP_PX), left : left + min(images.shape[-1], CROP_PX)]


def _as_slice(array: np.ndarray, where: str) -> np.ndarray:
    """Complex, real with a last axis of two (re, im), or real, with an optional leading axis of one."""
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] == 2 and array.dtype.kind == "f":
        array = array[..., 0] + 1j * array[..., 1]
    if array.ndim != 2 or array.dtype.kind not in "fciu":
        raise DataError(f"{where}: shape {array.shape} of {array.dtype} is not one slice")
    return array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
