"""Damaged image files of every format, read by the readers.

  python -m tests.shards.image_files.image_fuzz --count 2000 --seed 1

Each mutation must end in a named refusal or in an image, never in another exception or a hang. Where every byte of the
format is covered by a checksum, an image must have the intact file's pixels. Whatever goes wrong is printed with the
seed that repeats it, and the exit code is 1.
"""

import argparse
import faulthandler
import gzip
import io
import logging
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import nibabel
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from quell.configs.errors import DataError, MachineError
from quell.shards.image_files.image import StoredImage
from quell.shards.image_files.read import read_file
from tests.support.mutations import mutate_bytes

CHECKSUMMED = (".png", ".nii.gz", ".npz")
"""Formats with a checksum over everything that the pixels depend on."""
NASTY_WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HANG_S = 60
MEMORY_BYTES = 6 << 30


class Failure(NamedTuple):
    """A mutation that did not end as it should."""

    name: str
    seed: int
    says: str


def intact_files() -> dict[str, bytes]:
    """File name -> a small file; several kinds of each format."""
    random = np.random.default_rng(0)
    grey = random.integers(0, 255, (12, 10), dtype=np.uint8)
    colour, deep = random.integers(0, 255, (9, 11, 3), dtype=np.uint8), random.integers(0, 65535, (8, 9), np.uint16)
    files = {**_pictures(grey, colour, deep), **_tiffs(grey, colour, deep), **_volumes(deep), **_arrays(grey, deep)}
    return dict(sorted(files.items()))


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """Damage of `mutate_bytes`, or to what looks like a field of the header: a word set to a nasty value or swapped."""
    if random.integers(2):
        return mutate_bytes(data, random)
    raw = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        size = int(random.choice((1, 2, 4, 8)))
        header = min(len(raw), 400) if random.integers(4) else len(raw)
        start = int(random.integers(max(header - size, 1)))
        if random.integers(3):
            word = int(random.choice(NASTY_WORDS)) & (2 ** (8 * size) - 1)
            raw[start : start + size] = word.to_bytes(size, "little" if random.integers(2) else "big")
        else:
            raw[start : start + size] = raw[start : start + size][::-1]
    return bytes(raw)


def fuzz(folder: Path, count: int, seed: int, only: str = "") -> Iterator[Failure]:
    """Read `count` mutated files, the same for the same seed; yields what went wrong."""
    files = {name: data for name, data in intact_files().items() if only in name}
    images = {name: _read(folder / name, data) for name, data in files.items()}
    for number in range(count):
        name = list(files)[number % len(files)]
        random = np.random.default_rng((seed, number))
        data = mutate(files[name], random)
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            says = _problem(folder / name, data, images[name])
        finally:
            faulthandler.cancel_dump_traceback_later()
        if says:
            yield Failure(name, number, says)


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.shards.image_files.image_fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose name contains this")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    silence()
    started, failures = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        for failure in fuzz(Path(folder), args.count, args.seed, args.only):
            failures += 1
            print(f"{failure.name} (seed {args.seed}, mutation {failure.seed}): {failure.says}", flush=True)
        names = len(intact_files())
    print(f"{args.count} mutations of {names} files in {time.perf_counter() - started:.0f} s: {failures} failures")
    return 1 if failures else 0


def silence() -> None:
    """Keep the libraries from printing what they think of damaged files."""
    warnings.simplefilter("ignore")
    for name in ("tifffile", "pydicom", "nibabel", "PIL"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _read(path: Path, data: bytes) -> list[StoredImage]:
    path.write_bytes(data)
    return read_file(path)


def _problem(path: Path, data: bytes, intact: list[StoredImage]) -> str:
    """What is wrong with how a damaged file is read; empty if nothing."""
    path.write_bytes(data)
    try:
        images = read_file(path)
    except DataError as error:
        text = str(error)
        return "" if path.name in text and "\n" not in text else f"the refusal does not name the file: {text!r}"
    except MachineError as error:
        return f"blames the machine: {error}"
    except BaseException:
        return traceback.format_exc(limit=-4)
    if not images or any(image.pixels.ndim not in (3, 4) or not image.pixels.size for image in images):
        return "no image"
    if any(image.pixels.dtype.kind in "fc" and not np.isfinite(image.pixels).all() for image in images):
        return "NaN or Inf"
    if path.name.endswith(CHECKSUMMED) and not _are_equal(images, intact):
        return "other pixels, although a checksum covers them"
    return ""


def _are_equal(images: list[StoredImage], intact: list[StoredImage]) -> bool:
    by_name = {image.name: image.pixels for image in intact}
    return all(
        image.name in by_name
        and image.pixels.dtype == by_name[image.name].dtype
        and np.array_equal(image.pixels, by_name[image.name])
        for image in images
    )


def _pictures(grey: np.ndarray, colour: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    palette = Image.fromarray(grey).convert("P")
    with_alpha = Image.fromarray(np.dstack([colour, np.full(colour.shape[:2], 255, np.uint8)]))
    exif = Image.Exif()
    exif[274] = 6
    return {
        "grey.png": _saved(Image.fromarray(grey), "png"),
        "colour.png": _saved(Image.fromarray(colour), "png"),
        "deep.png": _saved(Image.fromarray(deep), "png"),
        "palette.png": _saved(palette, "png"),
        "alpha.png": _saved(with_alpha, "png"),
        "turned.png": _saved(Image.fromarray(grey), "png", exif=exif),
        "bits.png": _saved(Image.fromarray(grey > 99), "png"),
        "grey.jpg": _saved(Image.fromarray(grey), "jpeg"),
        "progressive.jpg": _saved(Image.fromarray(colour), "jpeg", progressive=True, exif=exif),
        "cmyk.jpg": _saved(Image.fromarray(colour).convert("CMYK"), "jpeg"),
        "grey.bmp": _saved(Image.fromarray(grey), "bmp"),
        "colour.bmp": _saved(Image.fromarray(colour), "bmp"),
        "lossless.webp": _saved(Image.fromarray(colour), "webp", lossless=True),
        "lossy.webp": _saved(Image.fromarray(colour), "webp"),
    }


def _tiffs(grey: np.ndarray, colour: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    stack = np.stack([deep, deep + 1, deep + 2])
    return {
        "grey.tif": _tiff(grey),
        "deep.tif": _tiff(deep, byteorder=">"),
        "float.tif": _tiff(deep.astype(np.float32), compression="zlib", predictor=True),
        "lzw.tif": _tiff(colour, compression="lzw"),
        "big.tif": _tiff(grey, bigtiff=True),
        "tiled.tif": _tiff(np.kron(grey, np.ones((4, 4), np.uint8)), tile=(16, 16), compression="zlib"),
        "planar.tif": _tiff(np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate"),
        "white.tif": _tiff(grey, photometric="miniswhite"),
        "bits.tif": _tiff(grey > 99),
        "turned.tif": _tiff(grey, extratags=[(274, "H", 1, 6, True)]),
        "pages.tif": _tiff(stack, photometric="minisblack"),
        "imagej.tif": _tiff(stack, imagej=True, metadata={"axes": "ZYX"}),
        "ome.ome.tif": _tiff(stack, ome=True, metadata={"axes": "TYX"}),
    }


def _volumes(deep: np.ndarray) -> dict[str, bytes]:
    volume = np.stack([deep, deep // 2, deep // 3], axis=2)
    scaled = nibabel.Nifti1Image((volume // 3).astype(np.int16), np.diag([2, 2, 3, 1]))
    scaled.header.set_slope_inter(0.5, -100)
    plain = nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4))
    return {
        "explicit.dcm": _dicom(deep),
        "implicit.dcm": _dicom(deep, syntax=pydicom.uid.ImplicitVRLittleEndian),
        "inverted.dcm": _dicom(deep, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-9),
        "frames.dcm": _dicom(np.stack([deep, deep]), NumberOfFrames=2),
        "rle.dcm": _dicom(deep, compress=pydicom.uid.RLELossless),
        "jpeg2000.dcm": _dicom(np.kron(deep, np.ones((8, 8), np.uint16)), compress=pydicom.uid.JPEG2000Lossless),
        "plain.nii": plain.to_bytes(),
        "scaled.nii": scaled.to_bytes(),
        "scaled.nii.gz": _gzipped(scaled.to_bytes()),
    }


def _arrays(grey: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    with_groups, stored, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with h5py.File(with_groups, "w") as file:
        file["a"] = deep.astype(">f4")
        file.create_dataset("g/b", data=np.kron(deep, np.ones((4, 4))), chunks=(8, 8), compression="gzip")
        file["g/c"] = deep + 1j * deep
    np.savez(stored, a=deep, b=grey)
    np.savez_compressed(packed, a=deep)
    return {
        "groups.h5": with_groups.getvalue(),
        "deep.npy": _npy(deep),
        "float.npy": _npy(np.asfortranarray(deep.astype(np.float32))),
        "complex.npy": _npy(deep * (1 + 1j)),
        "stored.npz": stored.getvalue(),
        "packed.npz": packed.getvalue(),
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _tiff(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)  # type: ignore[arg-type]
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _dicom(pixels: np.ndarray, *, syntax: str = "", compress: str = "", **tags: object) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3.4")
    meta.TransferSyntaxUID = pydicom.uid.UID(syntax or pydicom.uid.ExplicitVRLittleEndian)
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": "P1",
        "SeriesInstanceUID": "1.2.3",
        "InstanceNumber": 1,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "PixelData": pixels.astype("<u2").tobytes(),
    }
    for name, value in {**values, **tags}.items():
        setattr(data, name, value)
    if compress:
        data.compress(pydicom.uid.UID(compress), generate_instance_uid=False)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
