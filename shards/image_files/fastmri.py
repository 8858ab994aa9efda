"""The published HDF5 files of fastMRI: description, reconstructions, and images from k-space."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from configs.errors import DataError
from shards.listing.finite import check_finite

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
                f"{path}: expected single-coil k-space, got {file['kspace'].shape[1]} coils, which cannot be combined "
                "to complex images without sensitivity maps; omit --complex"
            )
        images = _from_kspace(_read(file, "kspace", slice(None), path)).astype(np.complex64)
    check_finite(images, f"{path}: kspace")
    return images


def is_fastmri(path: Path) -> bool:
    """Whether a file has the layout of fastMRI. Raises DataError for one that is not HDF5."""
    with _open(path) as file:
        return _reconstruction(file) is not None or isinstance(file.get("kspace"), h5py.Dataset)


def image_name(path: Path) -> str:
    """What `read_magnitude` reads: the name of a reconstruction, or kspace."""
    with _open(path) as file:
        return _reconstruction(file) or "kspace"


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error


def _read(file: h5py.File, name: str, slices: slice | list[int], path: Path) -> np.ndarray:
    try:
        array = np.asarray(file[name][slices])
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{path}: {name}: cannot be read ({' '.join(str(error).split())})") from error
    kinds = "c" if name == "kspace" else "uif"
    if array.dtype.kind not in kinds or not 3 <= array.ndim <= 4 or 0 in array.shape:
        what = "complex numbers (slices, [coils,] H, W)" if name == "kspace" else "magnitudes (slices, H, W)"
        raise DataError(f"{path}: {name}: expected {what}, got shape {array.shape} of {array.dtype}")
    return array


def _reconstruction(file: h5py.File) -> str | None:
    names = RECONSTRUCTIONS
    if "kspace" in file and file["kspace"].ndim == 4:  # several coils, of which esc is no sum
        names = RECONSTRUCTIONS[::-1]
    return next((name for name in names if isinstance(file.get(name), h5py.Dataset)), None)


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
