"""What DICOM files say about each of their frames, without the pixels. Needs pydicom."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset

from quell.configs.errors import DataError
from quell.shards.image_files.errors import reading

Vector = tuple[float, float, float]


class NoImageError(DataError):
    """A DICOM file that holds a report, a presentation state or the like instead of an image."""


class NoDicomError(DataError):
    """A file that is not DICOM at all."""


UNREADABLE = "not a readable DICOM file"

TRAITS = {
    "image type": ("ImageType",),
    "echo": ("EchoNumbers", "EchoTime"),
    "acquisition": ("AcquisitionNumber",),
    "temporal position": ("TemporalPositionIdentifier", "TemporalPositionIndex"),
    "trigger time": ("TriggerTime",),
    "b-value": ("DiffusionBValue",),
    "inversion time": ("InversionTime",),
    "flip angle": ("FlipAngle",),
    "stack": ("StackID",),
}
"""What tells apart images of one place in one series -> the elements that may say so, the first that does counts."""

FRAME_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "FrameContentSequence": ("TemporalPositionIndex", "StackID"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "MRImageFrameTypeSequence": ("FrameType",),
    "CTImageFrameTypeSequence": ("FrameType",),
    "PETFrameTypeSequence": ("FrameType",),
    "MRTimingAndRelatedParametersSequence": ("FlipAngle",),
}
"""Functional groups of enhanced DICOM -> the elements in them that are used here."""
RENAMED = {"EffectiveEchoTime": "EchoTime", "FrameType": "ImageType"}
"""Elements of enhanced DICOM -> those of other files with the same meaning."""


@dataclass(frozen=True)
class DicomFrame:
    """One slice: a file, or a frame of a file."""

    path: Path
    number: int
    """Number of the frame in the file, from 0."""
    patient: str
    """PatientID; empty where there is none."""
    series: str
    """SeriesInstanceUID; empty where there is none."""
    rows: int
    columns: int
    position: Vector | None
    """Centre of the first pixel, mm, towards the patient's left, posterior and superior."""
    rows_direction: Vector | None
    """Unit vector along a row, that is from column to column."""
    columns_direction: Vector | None
    """Unit vector along a column."""
    spacing_mm: tuple[float, float] | None
    """Distance of neighbouring rows, and of neighbouring columns."""
    location_mm: float | None
    """SliceLocation."""
    instance: int | None
    """InstanceNumber; the number of the frame, from 1, in files with several."""
    traits: tuple[tuple[str, str], ...]
    """What else tells images of one place apart: name of TRAITS, value."""
    reference: str
    """FrameOfReferenceUID; empty where there is none."""
    description: str
    """SeriesDescription; empty where there is none."""

    @property
    def where(self) -> str:
        """The file, and the frame in it if there are several, for messages."""
        return f"{self.path}: frame {self.number}" if self.number else str(self.path)

    @property
    def normal(self) -> np.ndarray | None:
        """Unit vector that is perpendicular to the slice; None where the file does not say how it lies."""
        if self.rows_direction is None or self.columns_direction is None:
            return None
        return np.cross(self.rows_direction, self.columns_direction)


def open_dicom(path: Path, *, with_pixels: bool) -> FileDataset:
    """Read a file; one without the preamble of 128 bytes too. Raises DataError where it is not a DICOM image."""
    with reading(path, UNREADABLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values that do not conform, which are common and checked here
        try:
            data = pydicom.dcmread(path, stop_before_pixels=not with_pixels)
        except pydicom.errors.InvalidDicomError as error:
            data = _without_preamble(path, with_pixels, error)
        has_image = "Rows" in data and "Columns" in data
        kind = str(data.get("SOPClassUID", ""))
    if not has_image:
        name = pydicom.uid.UID_dictionary[kind][0] if kind in pydicom.uid.UID_dictionary else "of an unknown kind"
        raise NoImageError(f"{path}: a DICOM file without an image ({name}); leave it out")
    return data


def _without_preamble(path: Path, with_pixels: bool, why: Exception) -> FileDataset:
    """Read a file that does not begin like DICOM. Raises NoDicomError if it does not go on like it either."""
    refusal = NoDicomError(f"{path}: {UNREADABLE} (it does not begin like one)")
    try:
        data = pydicom.dcmread(path, stop_before_pixels=not with_pixels, force=True)
        is_image = "SOPClassUID" in data and "Rows" in data
    except Exception as error:  # anything may happen when a file of another type is read like this
        raise refusal from error
    if not is_image:
        raise refusal from why
    return data


def dicom_suffixes(root: Path) -> set[str]:
    """The suffixes, in lower case, of files below a folder that begin like DICOM: '.dicom', or the '.7' of a UID."""
    found: set[str] = set()
    for path in root.rglob("*"):
        if path.suffix and path.suffix.lower() not in found and path.is_file() and begins_like_dicom(path):
            found.add(path.suffix.lower())
    return found


def begins_like_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM after a preamble of 128 bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_frames(path: Path) -> list[DicomFrame]:
    """Describe every frame of a file.

    Raises:
        DataError: It is not a DICOM image, or what it says about its frames cannot be understood.
    """
    data = open_dicom(path, with_pixels=False)
    with reading(path, UNREADABLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_describe(path, number, frame) for number, frame in enumerate(frame_headers(path, data))]


def frame_headers(path: Path, data: FileDataset) -> list[Dataset]:
    """The elements that describe each frame, those of functional groups among them, as files of one frame have them."""
    count = int(data.get("NumberOfFrames") or 1)
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        return [data] if count == 1 else list(_plain_frames(data, count))
    if len(groups) != count:
        raise DataError(f"{path}: states {count} frames but describes {len(groups)}")
    shared = data.get("SharedFunctionalGroupsSequence") or [Dataset()]
    common = {name: data.get(name) for names in TRAITS.values() for name in names}
    common |= {name: data.get(name) for name in ("RescaleSlope", "RescaleIntercept", "RescaleType", "Modality")}
    frames = []
    for number, group in enumerate(groups):
        frame = Dataset()
        for name, value in {**common, **_group_elements(shared[0]), **_group_elements(group)}.items():
            if value is not None:
                setattr(frame, name, value)
        _copy_identity(data, frame, number)
        frames.append(frame)
    return frames


def numbers_of(data: Dataset, name: str, count: int) -> tuple[float, ...] | None:
    """The numbers of an element; None where it is missing, empty or has another count."""
    value = data.get(name)
    if value is None or value == "":
        return None
    parts = tuple(
        float(part) for part in (value if isinstance(value, Sequence | pydicom.multival.MultiValue) else [value])
    )
    return parts if len(parts) == count and np.isfinite(parts).all() else None


def _group_elements(group: Dataset) -> dict[str, object]:
    """The elements of functional groups that are used, under the names that other files have for them."""
    found: dict[str, object] = {}
    for sequence, names in FRAME_GROUPS.items():
        items = group.get(sequence)
        for name in names if items else ():
            value = items[0].get(name)
            if value is not None:
                found[RENAMED.get(name, name)] = value
    return found


def _copy_identity(data: Dataset, frame: Dataset, number: int) -> None:
    """Copy what holds for all frames of a file."""
    for name in ("PatientID", "SeriesInstanceUID", "Rows", "Columns", "FrameOfReferenceUID", "SeriesDescription"):
        if data.get(name) is not None:
            setattr(frame, name, data.get(name))
    frame.InstanceNumber = number + 1


def _plain_frames(data: Dataset, count: int) -> Iterator[Dataset]:
    """Frames of a file without functional groups: in order, at positions that only a dose grid states."""
    offsets = data.get("GridFrameOffsetVector")
    position, axes = numbers_of(data, "ImagePositionPatient", 3), numbers_of(data, "ImageOrientationPatient", 6)
    for number in range(count):
        frame = Dataset()
        for names in TRAITS.values():
            for name in names:
                if data.get(name) is not None:
                    setattr(frame, name, data.get(name))
        for name in ("PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth"):
            if data.get(name) is not None:
                setattr(frame, name, data.get(name))
        if offsets is not None and len(offsets) == count and position and axes:
            normal = np.cross(axes[:3], axes[3:])
            place = np.array(position) + normal * (float(offsets[number]) - float(offsets[0]))
            frame.ImagePositionPatient, frame.ImageOrientationPatient = place.tolist(), list(axes)
        _copy_identity(data, frame, number)
        yield frame


def _describe(path: Path, number: int, data: Dataset) -> DicomFrame:
    position, axes = numbers_of(data, "ImagePositionPatient", 3), numbers_of(data, "ImageOrientationPatient", 6)
    rows_direction = columns_direction = None
    if axes is not None:
        lengths = np.linalg.norm(np.reshape(axes, (2, 3)), axis=1)
        if np.abs(lengths - 1).max() > 0.01 or abs(np.dot(axes[:3], axes[3:])) > 0.01:
            raise DataError(f"{path}: ImageOrientationPatient {axes} is not a pair of perpendicular unit vectors")
        rows_direction, columns_direction = axes[:3], axes[3:]
    spacing = numbers_of(data, "PixelSpacing", 2) or numbers_of(data, "ImagerPixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        raise DataError(f"{path}: pixel spacing {spacing} mm; expected positive numbers")
    location, instance = numbers_of(data, "SliceLocation", 1), numbers_of(data, "InstanceNumber", 1)
    traits = []
    for trait, names in TRAITS.items():
        value = next((str(data.get(name)) for name in names if data.get(name) not in (None, "")), None)
        if value is not None:
            traits.append((trait, value))
    return DicomFrame(
        path,
        number,
        str(data.get("PatientID") or "").strip(),
        str(data.get("SeriesInstanceUID") or ""),
        int(data.Rows),
        int(data.Columns),
        _vector(position),
        _vector(rows_direction),
        _vector(columns_direction),
        (spacing[0], spacing[1]) if spacing else None,
        location[0] if location else None,
        int(instance[0]) if instance else None,
        tuple(traits),
        str(data.get("FrameOfReferenceUID") or ""),
        str(data.get("SeriesDescription") or "").strip(),
    )


def _vector(values: Sequence[float] | None) -> Vector | None:
    return None if values is None else (values[0], values[1], values[2])
