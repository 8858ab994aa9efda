"""DICOM series: the position of each slice, and pixels in physical units. Needs pydicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from configs.errors import DataError

SUFFIXES = (".dcm", ".ima", "")


class DicomSlice(NamedTuple):
    """One file of a series."""

    path: Path
    position_mm: float
    """Position along the slice normal; the instance number where the file does not give one."""
    patient: str
    """PatientID, or the name of the folder where there is none."""
    series: str
    """SeriesInstanceUID, or the folder where there is none."""


def list_files(folder: Path) -> list[Path]:
    """The files below a folder that may be DICOM, in name order. Raises DataError where there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"{folder}: no DICOM files; expected .dcm, .ima or names without a suffix")
    return files


def read_slice_header(path: Path) -> DicomSlice:
    """Read what a file says about its slice, without the pixels. Raises DataError naming the file."""
    data = _read(path, with_pixels=False)
    position, orientation = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
    if position is not None and orientation is not None:
        axes = np.array(orientation, dtype=float).reshape(2, 3)
        position_mm = float(np.cross(axes[0], axes[1]) @ np.array(position, dtype=float))
    else:
        position_mm = float(data.get("SliceLocation", data.get("InstanceNumber", 0)))
    patient = str(data.get("PatientID", "") or path.parent.name)
    return DicomSlice(path, position_mm, patient, str(data.get("SeriesInstanceUID", path.parent)))


def read_pixels(path: Path) -> np.ndarray:
    """The image, float32 (H, W), after the file's rescale slope and intercept (Hounsfield units in CT)."""
    data = _read(path, with_pixels=True)
    try:
        image = data.pixel_array.astype(np.float32)
    except Exception as error:  # pydicom's decoders raise exceptions of many types
        raise DataError(f"{path}: its pixels cannot be decoded ({error})") from error
    if image.ndim != 2:
        raise DataError(f"{path}: expected a single grey slice, got shape {image.shape}")
    return image * float(data.get("RescaleSlope", 1) or 1) + float(data.get("RescaleIntercept", 0) or 0)


def read_volume(slices: Sequence[DicomSlice]) -> np.ndarray:
    """Slices in order of position, float32 (slices, H, W). Raises DataError where they differ in size."""
    images = [
        read_pixels(header.path) for header in sorted(slices, key=lambda header: (header.position_mm, header.path))
    ]
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{slices[0].path.parent}: a series has slices of different sizes")
    return np.stack(images)


def _read(path: Path, *, with_pixels: bool) -> pydicom.FileDataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
    except (OSError, pydicom.errors.InvalidDicomError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable DICOM file ({error})") from error
