"""Small DICOM files, written for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid


def write_dicom(path: Path, pixels: np.ndarray, *, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> None:
    """Write a grey DICOM file with private tags and accents."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.4")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    is_compressed = syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if is_compressed else syntax
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    bits = 8 * pixels.dtype.itemsize
    plain: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": "P1",
        "PatientName": "Ünal^X",
        "SeriesInstanceUID": "1.2.3",
        "InstanceNumber": 1,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for name, value in (plain | tags).items():
        setattr(data, name, value)
    data.add_new(0x00091010, "LO", "private")
    data.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    data["PixelData"].VR = "OB" if bits == 8 else "OW"
    if is_compressed:
        data.compress(syntax, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)
