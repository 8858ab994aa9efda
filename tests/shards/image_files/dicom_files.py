"""Writing small DICOM files of every kind."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

MR = "1.2.840.10008.5.1.4.1.1.4"
AXIAL = [1, 0, 0, 0, 1, 0]
PICTURE = (100 + np.add.outer(np.arange(8), np.arange(10) * 3)).astype(np.uint16)
"""A small asymmetric image (8, 10)."""


def make_dicom(image: np.ndarray, z: float | None = None, **tags: Any) -> FileDataset:
    """A grey MR image with 16 bits or 8; `z` gives it an axial position; tags replace the defaults, None deletes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(MR), generate_uid()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    is_big = meta.TransferSyntaxUID == ExplicitVRBigEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_little_endian=not is_big)
    bits = 8 * image.dtype.itemsize
    base: dict[str, Any] = {
        "SOPClassUID": MR,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": "P1",
        "SeriesInstanceUID": "1.2.3",
        "InstanceNumber": 1,
        "Rows": image.shape[-2],
        "Columns": image.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(image.dtype.kind == "i"),
        "PixelData": image.astype(image.dtype.newbyteorder(">" if is_big else "<")).tobytes(),
    }
    if z is not None:
        base |= {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": AXIAL, "PixelSpacing": [1, 1]}
    base |= tags
    base.setdefault("HighBit", base["BitsStored"] - 1)
    for name, value in base.items():
        if value is not None or name in ("InstanceNumber",):
            setattr(data, name, value)
    if bits == 16:
        data["PixelData"].VR = "OW"
    return data


def write_dicom(path: Path, image: np.ndarray = PICTURE, z: float | None = None, **tags: Any) -> Path:
    """Write `make_dicom`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = make_dicom(image, z, **tags)
    data.save_as(path, enforce_file_format=True)
    return path


def write_enhanced(path: Path, frames: np.ndarray, per_frame: list[dict[str, Any]], **tags: Any) -> Path:
    """Write an enhanced multi-frame file; each dict may hold z, position, axes, slope, intercept, echo, spacing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = make_dicom(frames, NumberOfFrames=len(frames), **tags)
    groups = []
    for facts in per_frame:
        group = Dataset()
        if "z" in facts or "position" in facts:
            place, plane = Dataset(), Dataset()
            place.ImagePositionPatient = facts.get("position", [0, 0, facts.get("z", 0)])
            plane.ImageOrientationPatient = facts.get("axes", AXIAL)
            group.PlanePositionSequence, group.PlaneOrientationSequence = [place], [plane]
        if "slope" in facts:
            scale = Dataset()
            scale.RescaleSlope, scale.RescaleIntercept = facts["slope"], facts.get("intercept", 0)
            scale.RescaleType = "US"
            group.PixelValueTransformationSequence = [scale]
        if "echo" in facts:
            echo = Dataset()
            echo.EffectiveEchoTime = facts["echo"]
            group.MREchoSequence = [echo]
        groups.append(group)
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 3
    shared.PixelMeasuresSequence = [measures]
    data.PerFrameFunctionalGroupsSequence, data.SharedFunctionalGroupsSequence = groups, [shared]
    data.save_as(path, enforce_file_format=True)
    return path
