"""Reading an image file of any supported format."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from quell.configs.errors import DataError, MachineError
from quell.shards.image_files.errors import check_regular, reading
from quell.shards.image_files.image import StoredImage

FORMATS = {
    ".png": "pillow_formats",
    ".jpg": "pillow_formats",
    ".jpeg": "pillow_formats",
    ".bmp": "pillow_formats",
    ".webp": "pillow_formats",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dcm": "dicom.files",
    ".ima": "dicom.files",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "numpy_arrays",
    ".npz": "numpy_arrays",
}
"""Suffix -> the module that reads it; imported when it is needed, since some libraries are optional."""

SUFFIXES = tuple(FORMATS)

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF and BigTIFF in either byte order."""


def suffix_of(path: Path) -> str:
    """The suffix of a path in lower case, `.nii.gz` as a whole; .dcm for DICOM files that have none."""
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    if (not path.suffix or path.suffix[1:].isdigit()) and _is_dicom(path):  # often 'IM_0001' or '1.2.840.1'
        return ".dcm"
    return path.suffix.lower()


def _is_dicom(path: Path) -> bool:
    return _start(path, 132)[128:] == b"DICM"


def _is_picture(path: Path) -> bool:
    return _start(path, 12).startswith((b"\x89PNG", b"\xff\xd8", b"BM", b"RIFF", b"GIF8"))


def _start(path: Path, count: int) -> bytes:
    if not path.is_file():  # a pipe or a device may never answer
        return b""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError:
        return b""


def read_file(path: Path) -> list[StoredImage]:
    """Read all images of a file; several only from npz and h5, which hold arrays by name.

    Raises:
        DataError: The format is not supported, the file is damaged, or its pixels cannot be understood.
        MachineError: The library that reads the format is not installed.
    """
    check_regular(path)
    module = FORMATS.get(suffix_of(path))
    if module in ("pillow_formats", "tiff"):  # often misnamed, and the content is never mistaken
        module = "tiff" if _start(path, 4) in TIFF_STARTS else "pillow_formats" if _is_picture(path) else module
    if module is None:
        raise DataError(f"{path}: cannot read '{path.suffix}' files, only {' '.join(SUFFIXES)}")
    try:
        reader: Callable[[Path], list[StoredImage]] = import_module(f"quell.shards.image_files.{module}").read
    except ModuleNotFoundError as error:
        raise MachineError(f"{path}: needs the package '{error.name}'; pip install {error.name}") from error
    with reading(path, f"cannot be read as {suffix_of(path)[1:]}"):
        return reader(path)


def read_one(path: Path) -> StoredImage:
    """Read the image of a file. Raises DataError where it holds several by name."""
    images = read_file(path)
    if len(images) > 1:
        names = ", ".join(image.name for image in images)
        raise DataError(f"{path}: holds several arrays ({names}); expected one image")
    return images[0]
