"""Copies of DICOM files with other pixels: all tags, a new SOP Instance UID, and what was done to the pixels."""

from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import DataError

MAX_DESCRIPTION = 1024
"""Characters that DerivationDescription may have."""

_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
"""Implicit and explicit little endian, deflated, explicit big endian."""
_REVERSIBLE = {
    "1.2.840.10008.1.2.5": "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.80": "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90": "1.2.840.10008.1.2.4.90",
}
"""Compressed transfer syntaxes that are kept where an encoder is installed: RLE, JPEG-LS and JPEG 2000, lossless."""


def write_dicom(source: Path, target: Path, stored: np.ndarray, description: str) -> list[str]:
    """Write a DICOM file that is derived from another.

    All tags are kept except PixelData, SOPInstanceUID, DerivationDescription and the first value of ImageType, which
    becomes DERIVED. Pixels that the source marks as padding stay padding.

    Args:
        source: The file whose tags are kept.
        target: Where to write.
        stored: (frames, H, W) or (frames, H, W, 3): the numbers before rescaling, in the integer dtype of the file.
        description: What was done, for DerivationDescription.

    Returns:
        What could not be kept, one sentence each.

    Raises:
        DataError: The file has no pixels.
    """
    import pydicom

    data = pydicom.dcmread(source, force=True)
    if "PixelData" not in data:
        raise DataError(f"{source}: holds no pixels")
    pixels = _with_unused_bits(data, _with_padding(data, np.asarray(stored)))
    is_changed = not np.array_equal(data.pixel_array.reshape(pixels.shape), stored)
    notes = _set_pixels(data, pixels)
    _mark_as_derived(data, f"{description}, from instance {data.get('SOPInstanceUID', 'without a UID')}", pixels)
    if is_changed:  # else what the source states stays, right or wrong
        _update_extremes(data, np.asarray(stored))
    data.save_as(target)
    return notes


def stored_range(source: Path) -> tuple[int, int]:
    """The smallest and largest number that the file's BitsStored can hold."""
    import pydicom

    data = pydicom.dcmread(source, force=True, stop_before_pixels=True)
    bits = int(data.get("BitsStored", data.get("BitsAllocated", 16)))
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if data.get("PixelRepresentation", 0) else (0, 2**bits - 1)


def _with_padding(data: Any, pixels: np.ndarray) -> np.ndarray:
    """The pixels, with those that the source marks as padding as they were."""
    padding = data.get("PixelPaddingValue")
    if padding is None or pixels.ndim != 3:
        return pixels
    limit = data.get("PixelPaddingRangeLimit", padding)
    low, high = sorted((int(padding), int(limit)))
    old = data.pixel_array.reshape(pixels.shape)
    return np.where((old >= low) & (old <= high), old, pixels).astype(pixels.dtype)


def _with_unused_bits(data: Any, pixels: np.ndarray) -> np.ndarray:
    """The pixels, with what the source stores in the bits that no pixel uses: overlays, in old files."""
    from pydicom.pixels import pixel_array

    if pixels.dtype.kind != "u" or int(data.BitsStored) >= 8 * pixels.dtype.itemsize:
        return pixels
    old = np.asarray(pixel_array(data, correct_unused_bits=False)).reshape(pixels.shape)
    used = pixels.dtype.type(2 ** int(data.BitsStored) - 1)
    return (pixels & used) | (old.astype(pixels.dtype) & ~used)


def _set_pixels(data: Any, pixels: np.ndarray) -> list[str]:
    """Replace PixelData in the file's own transfer syntax where that can be written; notes otherwise."""
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = str(data.file_meta.get("TransferSyntaxUID", _UNCOMPRESSED[0])) if hasattr(data, "file_meta") else ""
    is_big = syntax == _UNCOMPRESSED[3]
    if pixels.ndim == 4:
        pixels = _colours(data, pixels, is_compressed=syntax not in ("", *_UNCOMPRESSED))
    raw = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder(">" if is_big else "<")).tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    if syntax in ("", *_UNCOMPRESSED):
        return []
    data["PixelData"].VR = "OB" if data.BitsAllocated <= 8 else "OW"
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data["PixelData"].is_undefined_length = False
    if syntax in _REVERSIBLE:
        try:
            data.compress(syntax, generate_instance_uid=False)
            return []
        except Exception:  # no encoder is installed, or it refuses this depth
            data.PixelData = raw + b"\0" * (len(raw) % 2)
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ["its compressed pixels are written uncompressed"]


def _colours(data: Any, pixels: np.ndarray, *, is_compressed: bool) -> np.ndarray:
    """RGB pixels in the colour space and the planar configuration of the file."""
    from pydicom.pixels.processing import convert_color_space

    if is_compressed or str(data.PhotometricInterpretation) not in ("RGB", "YBR_FULL"):
        data.PhotometricInterpretation, data.PlanarConfiguration = "RGB", 0
        return pixels
    if data.PhotometricInterpretation == "YBR_FULL":
        pixels = convert_color_space(pixels, "RGB", "YBR_FULL")
    return np.moveaxis(pixels, -1, 1) if data.get("PlanarConfiguration", 0) == 1 else pixels


def _mark_as_derived(data: Any, description: str, pixels: np.ndarray) -> None:
    import hashlib

    from pydicom.uid import generate_uid

    kinds = list(data.get("ImageType", None) or ["DERIVED", "PRIMARY"])
    data.ImageType = ["DERIVED", *kinds[1:]]
    for group in (data.get("SharedFunctionalGroupsSequence", []), data.get("PerFrameFunctionalGroupsSequence", [])):
        for item in group:
            for sequence in item:
                if sequence.VR == "SQ" and sequence.keyword.endswith("FrameTypeSequence"):
                    frame = sequence.value[0]
                    if "FrameType" in frame:
                        frame.FrameType = ["DERIVED", *list(frame.FrameType)[1:]]
    data.DerivationDescription = description[:MAX_DESCRIPTION]
    # equal input, weights and pixels give the same instance again, anything else a new one
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    uid = generate_uid(entropy_srcs=[str(data.get("SOPInstanceUID", "")), description, digest])
    data.SOPInstanceUID = uid
    if getattr(data, "file_meta", None):
        data.file_meta.MediaStorageSOPInstanceUID = uid


def _update_extremes(data: Any, pixels: np.ndarray) -> None:
    for keyword, value in (("SmallestImagePixelValue", pixels.min()), ("LargestImagePixelValue", pixels.max())):
        if keyword in data:
            data[keyword].value = int(value)
