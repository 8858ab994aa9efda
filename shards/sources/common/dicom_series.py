"""DICOM files -> slices in stored units with their place in the volume; needs pydicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom

from configs.errors import DataError

SUFFIXES = (".dcm", ".ima", "")


class Slice(NamedTuple):
    """One image of a series."""

    path: Path
    position_mm: float
    """Along the slice normal; the instance number where the file does not say."""
    patient: str
    series: str


def files(folder: Path) -> list[Path]:
    """Files below a folder that may be DICOM, by name. Raises DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder}: no DICOM files (.dcm, .ima or without suffix)")
    return found


def describe(path: Path) -> Slice:
    """Where a file lies, without its pixels. Raises DataError naming the file."""
    data = _read(path, pixels=False)
    position, orientation = data.get("ImagePositionPatient"), data.get("ImageOrientationPatient")
    if position is not None and orientation is not None:
        axes = np.array(orientation, dtype=float).reshape(2, 3)
        place = float(np.cross(axes[0], axes[1]) @ np.array(position, dtype=float))
    else:
        place = float(data.get("SliceLocation", data.get("InstanceNumber", 0)))
    return Slice(
        path, place, str(data.get("PatientID", "") or path.parent.name), str(data.get("SeriesInstanceUID", path.parent))
    )


def pixels(path: Path) -> np.ndarray:
    """The image float32 (H, W) after the file's slope and intercept (Hounsfield units in CT)."""
    data = _read(path, pixels=True)
    try:
        image = data.pixel_array.astype(np.float32)
    except Exception as error:  # pydicom's decoders raise many kinds
        raise DataError(f"{path}: its pixels cannot be decoded ({error})") from error
    if image.ndim != 2:
        raise DataError(f"{path}: shape {image.shape} is not one grey slice")
    return image * float(data.get("RescaleSlope", 1) or 1) + float(data.get("RescaleIntercept", 0) or 0)


def volume(found: Sequence[Slice]) -> np.ndarray:
    """The slices by position, float32 (slices, H, W). Raises DataError when they differ in size."""
    stack = [pixels(one.path) for one in sorted(found, key=lambda one: (one.position_mm, one.path))]
    if len({image.shape for image in stack}) > 1:
        raise DataError(f"{found[0].path.parent}: slices of different sizes in one series")
    return np.stack(stack)


def _read(path: Path, *, pixels: bool) -> pydicom.FileDataset:
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (OSError, pydicom.errors.InvalidDicomError, EOFError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable DICOM file ({error})") from error
