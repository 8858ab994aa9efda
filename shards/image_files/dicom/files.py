"""The pixels of one DICOM file, by pydicom: upright meaning of black and white, in physical units. Needs pydicom."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset

from quell.configs.errors import DataError
from quell.shards.image_files.dicom import jpeg_plugin
from quell.shards.image_files.dicom.headers import UNREADABLE, frame_headers, numbers_of, open_dicom, read_frames
from quell.shards.image_files.errors import reading
from quell.shards.image_files.geometry import Geometry, Layout
from quell.shards.image_files.image import Frame, StoredImage, Values
from quell.shards.listing.finite import check_finite

jpeg_plugin.register()
for _name in ("pydicom", "openjpeg"):  # they log tracebacks of damaged pixels, which are reported in one sentence here
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False

GREY = ("MONOCHROME1", "MONOCHROME2")


def read(path: Path) -> list[StoredImage]:
    """Read a file: one slice, or all of its frames in the order of the file. For whole series see series.py.

    `source` is a list with the pydicom data set of the file, without its pixels.

    Raises:
        DataError: The file is damaged, in colour, or its numbers cannot be understood.
    """
    data = open_dicom(path, with_pixels=True)
    pixels, values = decode(path, data)
    described = read_frames(path)
    if "PixelData" in data:
        del data.PixelData
    first = described[0]
    layout = Layout.of(pixels if len(described) > 1 else pixels[0])
    spacing = (None, *first.spacing_mm) if first.spacing_mm else None
    frames = tuple(
        Frame(path, frame.number, f"instance {frame.instance}" if frame.instance is not None else "", frame.position)
        for frame in described
    )
    stack_axes = (("Z", len(described)),) if len(described) > 1 else ()
    geometry = Geometry(layout, spacing_mm=spacing)
    return [StoredImage(pixels, path, "dicom", values, geometry, frames, stack_axes, source=[data])]


def decode(path: Path, data: FileDataset) -> tuple[np.ndarray, Values]:
    """The frames of a file that has been read, float32 (frames, H, W), in physical units, and what was done to them.

    Raises:
        DataError: The pixels cannot be decoded, are no grey values, or contradict what the file says about them.
    """
    with reading(path, UNREADABLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _decode(path, data)


def _decode(path: Path, data: FileDataset) -> tuple[np.ndarray, Values]:
    photometric = str(data.get("PhotometricInterpretation") or "MONOCHROME2")
    if photometric not in GREY or int(data.get("SamplesPerPixel") or 1) != 1:
        raise DataError(
            f"{path}: photometric interpretation {photometric}; expected a grey image ({' or '.join(GREY)})"
        )
    stored = _stored_numbers(path, data)
    headers = frame_headers(path, data)
    if len(headers) != len(stored):
        raise DataError(f"{path}: states {len(headers)} frames but holds {len(stored)}")
    inverted, unit = photometric == "MONOCHROME1", _unit(headers[0], data)
    if inverted and unit == "HU":
        raise DataError(
            f"{path}: MONOCHROME1 with Hounsfield units; whether the numbers or only their display are inverted is not "
            "defined; convert it to MONOCHROME2"
        )
    around = _sum_of_extremes(data) if inverted else 0.0
    images = stored.astype(np.float32)
    if inverted:
        images = np.float32(around) - images
    slopes = [_rescale(path, header) for header in headers]
    if data.get("ModalityLUTSequence"):
        if inverted:
            raise DataError(f"{path}: MONOCHROME1 with a modality lookup table; convert it to MONOCHROME2")
        images = np.asarray(pydicom.pixels.apply_modality_lut(stored, data), np.float32)
        slopes = [(float("nan"), float("nan"))]
    elif len(set(slopes)) == 1:
        images = images * slopes[0][0] + slopes[0][1]
    else:
        images = np.stack([image * slope + intercept for image, (slope, intercept) in zip(images, slopes, strict=True)])
    slope, intercept = slopes[0] if len(set(slopes)) == 1 else (float("nan"), float("nan"))
    images = np.ascontiguousarray(images, dtype=np.float32)
    check_finite(images, str(path))
    bits = None if stored.dtype.kind == "f" else int(data.BitsStored)
    window = _window(headers[0])
    return images, Values(stored.dtype.name, photometric, inverted, around, bits, slope, intercept, window, unit)


def _stored_numbers(path: Path, data: FileDataset) -> np.ndarray:
    """The stored numbers (frames, H, W) without unused bits."""
    with reading(path, "its pixels cannot be decoded"):
        if getattr(data, "file_meta", None) is None or "TransferSyntaxUID" not in data.file_meta:
            _assume_transfer_syntax(data)
        # with unused bits, in which old files hide overlays, and others numbers that BitsStored denies
        stored = np.asarray(pydicom.pixels.pixel_array(data, correct_unused_bits=False))
    frames = stored if stored.ndim == 3 else stored[None]
    if frames.ndim != 3 or 0 in frames.shape:
        raise DataError(f"{path}: expected grey slices, got shape {stored.shape}")
    return frames if frames.dtype.kind == "f" else _used_bits(path, data, frames)


def _assume_transfer_syntax(data: FileDataset) -> None:
    """What a file without meta information was read as."""
    if getattr(data, "file_meta", None) is None:
        data.file_meta = pydicom.dataset.FileMetaDataset()
    implicit, little = data.original_encoding
    syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.TransferSyntaxUID = syntax if little else pydicom.uid.ExplicitVRBigEndian


def _used_bits(path: Path, data: FileDataset, stored: np.ndarray) -> np.ndarray:
    """Numbers in which overlays in unused bits are removed and the sign is extended.

    Raises:
        DataError: A number is greater than the stated bits allow, and no overlay explains it.
    """
    bits, allocated = int(data.BitsStored), 8 * stored.dtype.itemsize
    if not 1 <= bits <= allocated or int(data.get("HighBit", bits - 1)) != bits - 1:
        raise DataError(f"{path}: BitsStored {bits} and HighBit {data.get('HighBit')} of {allocated} bits do not fit")
    if bits == allocated:
        return stored
    shift = allocated - bits
    used = (stored << shift) >> shift  # arithmetic for signed numbers: extends the sign
    has_overlay = any(
        f"60{group:02x}" in {f"{tag >> 16:04x}" for tag in map(int, data.keys())} for group in range(0, 32, 2)
    )
    if not np.array_equal(used, stored) and not has_overlay and _contradicts(stored, used, bits):
        extreme = int(stored.flat[int(np.argmax(np.abs(stored.astype(np.int64))))])
        raise DataError(
            f"{path}: holds the number {extreme}, which BitsStored {bits} does not allow; correct BitsStored"
        )
    return np.asarray(used)


def _contradicts(stored: np.ndarray, used: np.ndarray, bits: int) -> bool:
    """Whether bits were lost: signed numbers whose sign was not extended lose none."""
    if stored.dtype.kind == "u":
        return True
    return bool((stored[used != stored] >= 2**bits).any() or (stored < -(2 ** (bits - 1))).any())


def _sum_of_extremes(data: FileDataset) -> float:
    bits = int(data.BitsStored)
    return -1.0 if int(data.get("PixelRepresentation") or 0) else float(2**bits - 1)


def _rescale(path: Path, header: Dataset) -> tuple[float, float]:
    slope, intercept = numbers_of(header, "RescaleSlope", 1), numbers_of(header, "RescaleIntercept", 1)
    if slope is not None and slope[0] == 0:
        raise DataError(f"{path}: RescaleSlope is 0, which would make every pixel the same")
    return slope[0] if slope else 1.0, intercept[0] if intercept else 0.0


def _unit(header: Dataset, data: FileDataset) -> str:
    kind = str(header.get("RescaleType") or "")
    is_ct = str(data.get("Modality") or "") == "CT" and header.get("RescaleIntercept") not in (None, "")
    return "HU" if kind == "HU" or (is_ct and kind in ("", "US")) else kind


def _window(header: Dataset) -> tuple[float, float] | None:
    """The lowest and highest value of the first window."""
    ends = []
    for name in ("WindowCenter", "WindowWidth"):
        value = header.get(name)
        many = isinstance(value, pydicom.multival.MultiValue) and len(value) > 0
        ends.append(value[0] if many else value)
    if any(end in (None, "") or isinstance(end, pydicom.multival.MultiValue) for end in ends):
        return None
    centre, width = float(ends[0]), float(ends[1])
    return (centre - width / 2, centre + width / 2) if width > 0 else None
