"""Small DICOM files, written for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.shards.image_files.dicom_files import make_dicom


def write_dicom(path: Path, pixels: np.ndarray, *, syntax: Any = ExplicitVRLittleEndian, **tags: Any) -> None:
    """Write a grey DICOM file with private tags and accents."""
    is_compressed = syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless)
    plain: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "PatientName": "Ünal^X",
        "HighBit": 8 * pixels.dtype.itemsize - 1,
    }
    written_as = ExplicitVRLittleEndian if is_compressed else syntax
    data = make_dicom(pixels, **(plain | tags), syntax=written_as)
    data.add_new(0x00091010, "LO", "private")
    data.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if is_compressed:
        data.compress(syntax, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)
