"""One tar member -> what it holds and its pixels: plain .npy arrays, and images decoded by Pillow or tifffile."""

import ast
import importlib
import io
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from configs.errors import DataError

IMAGES = ("png", "jpg", "jpeg", "tif", "tiff")
ARRAYS = ("npy",)
REFUSED = {
    **dict.fromkeys(("pkl", "pickle", "pyd", "pth", "pt"), "pickled members can run code when they are read"),
    **dict.fromkeys(("gz", "bz2", "xz", "zst", "npz", "zip", "tgz"), "compressed members cannot be read in place"),
}
HEAD_BYTES = 65536
"""Enough of a member to know its shape without its pixels."""

_DTYPES = re.compile(r"[<>|=]?(f[248]|c8|c16|[iu][1248]|b1)")


class Kind(NamedTuple):
    """How a member's bytes become an array; few of these exist per data set."""

    codec: str
    """npy, png, jpg, jpeg, tif, tiff or json."""
    dtype: str
    """numpy's name with byte order, e.g. <f4; what decoding gives."""
    fortran: bool = False


class Head(NamedTuple):
    """What a member says about itself."""

    kind: Kind
    start: int
    """Bytes before the first pixel of a plain array, else 0."""
    shape: tuple[int, ...]


def split_name(name: str) -> tuple[str, str, str] | None:
    """`dir/key.field.ext` -> (key with folders, field, codec), by WebDataset's rule: cut at the first dot of the last
    part. A member `key.png` without a field name is the field `png`. None when the name has no dot or no key.
    """
    folder, slash, last = name.rpartition("/")
    key, dot, rest = last.partition(".")
    if not dot or not key or not rest:
        return None
    field, _, codec = rest.lower().rpartition(".")
    return folder + slash + key, field or codec, codec


def refusal(codec: str) -> str | None:
    """Why members of this extension are not read, or None."""
    return REFUSED.get(codec)


def head(codec: str, data: bytes | memoryview, size: int) -> Head:
    """Kind and shape of a member from its first bytes (all of them for images that need it).

    Raises DataError with the reason alone; the caller adds shard and member.
    """
    if codec in ARRAYS:
        return _npy_head(data, size)
    if codec in ("tif", "tiff"):
        return _tiff_head(bytes(data))
    return _image_head(codec, bytes(data))


def decode(kind: Kind, start: int, shape: tuple[int, ...], data: bytearray | bytes | memoryview) -> np.ndarray:
    """The array of a whole member; a plain array is a view of `data`. Raises DataError with the reason alone."""
    if kind.codec in ARRAYS:
        order = "F" if kind.fortran else "C"
        return np.frombuffer(data, kind.dtype, offset=start).reshape(shape, order=order)  # type: ignore[call-overload]
    if (image := _quick(kind.codec, data, shape)) is not None:
        return image
    try:
        if kind.codec in ("tif", "tiff"):
            return tifffile.imread(io.BytesIO(data))
        with Image.open(io.BytesIO(data)) as image:
            mode = _mode(image)
            if mode == "I;16":
                return np.asarray(image).astype("<u2")
            return np.asarray(image if image.mode == mode else image.convert(mode))
    except Exception as error:  # decoders raise many kinds on damaged files, MemoryError among them
        raise DataError(f"the image cannot be decoded ({error.__class__.__name__}: {error})") from error


def npy_bytes(array: np.ndarray) -> tuple[bytes, memoryview]:
    """Header and pixels of an array as a .npy file, without copying the pixels; C order, little endian."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _quick(codec: str, data: bytearray | bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray | None:
    """A plain 8-bit grey or RGB PNG or JPEG through imagecodecs, which takes half to two thirds of Pillow's time, where
    it is installed; None for any other image, and for damaged ones, about which Pillow has the clearer words.
    """
    if codec == "png":
        plain = len(data) >= 26 and data[24] == 8 and data[25] in (0, 2)
    else:  # the decoder would fill up a JPEG that is cut off
        plain = codec in ("jpg", "jpeg") and bytes(data[-2:]) == b"\xff\xd9"
    decoder = _decoder("png_decode" if codec == "png" else "jpeg8_decode") if plain else None
    if decoder is None:
        return None
    try:
        image: np.ndarray = decoder(bytes(data))
    except Exception:  # Pillow says what is wrong with it
        return None
    return image if image.shape == shape and image.dtype == np.uint8 else None


@lru_cache(maxsize=2)
def _decoder(name: str) -> Callable[[bytes], np.ndarray] | None:
    try:
        decoder: Callable[[bytes], np.ndarray] = getattr(importlib.import_module("imagecodecs"), name)
    except (ImportError, AttributeError):
        return None
    return decoder


def _npy_head(data: bytes | memoryview, size: int) -> Head:
    if bytes(data[:6]) != b"\x93NUMPY" or len(data) < 12:
        raise DataError("it is not a .npy array")
    wide = data[6] >= 2
    length = int.from_bytes(data[8:12] if wide else data[8:10], "little")
    start = (12 if wide else 10) + length
    if start > min(len(data), HEAD_BYTES - 1):
        raise DataError("its .npy header is cut off or larger than 64 KiB")
    dtype, fortran, shape = _npy_fields(bytes(data[12 if wide else 10 : start]))
    if size != start + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize:
        raise DataError(f"it holds {size - start} bytes of pixels, which shape {shape} of {dtype} does not fill")
    return Head(Kind("npy", dtype, fortran), start, shape)


@lru_cache(maxsize=4096)
def _npy_fields(text: bytes) -> tuple[str, bool, tuple[int, ...]]:
    """dtype, order and shape of a .npy header."""
    try:
        fields = ast.literal_eval(text.decode("latin1").strip())
        dtype, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        good = isinstance(dtype, str) and isinstance(shape, tuple) and all(type(side) is int for side in shape)
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise DataError("its .npy header cannot be read") from error
    if isinstance(dtype, str) and dtype.startswith("|O"):
        raise DataError("its .npy array holds pickled objects, which can run code when they are read")
    if not good or not _DTYPES.fullmatch(dtype):
        raise DataError(f"dtype {dtype!r} is not one of float, complex, signed, unsigned or bool")
    return dtype, bool(fortran), _checked(shape)


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An image shape: (H, W), (H, W, C) with at most 16 channels, or (1, H, W)."""
    plain = len(shape) == 2 or (len(shape) == 3 and (shape[2] <= 16 or shape[0] == 1))
    if not plain or min(shape) < 1 or max(shape) >= 2**31:
        raise DataError(f"shape {shape} is not an image (H, W), (H, W, C) with up to 16 channels, or (1, H, W)")
    return shape


def _mode(image: Image.Image) -> str:
    """The Pillow mode an image is read in: grey, 16-bit grey or RGB; palettes and transparency are resolved."""
    if image.mode.startswith("I"):
        return "I;16"
    if image.mode in ("L", "RGB"):
        return image.mode
    return "L" if image.mode in ("1", "LA") else "RGB"


def _image_head(codec: str, data: bytes) -> Head:
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 25 and data[24] == 16 and data[25] in (2, 6):
        raise DataError("16-bit colour PNG loses half its bits in the decoder: store it as .npy or .tif")
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, (width, height) = _mode(image), image.size
    except Exception as error:  # Pillow raises many kinds on damaged files, warnings about their size among them
        raise DataError(f"it is not an image Pillow can read ({error.__class__.__name__})") from error
    dtype = "<u2" if mode == "I;16" else "|u1"
    return Head(Kind(codec, dtype), 0, _checked((height, width, 3) if mode == "RGB" else (height, width)))


def _tiff_head(data: bytes) -> Head:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as image:
            series = image.series[0]
            return Head(Kind("tif", np.dtype(series.dtype).str), 0, _checked(tuple(series.shape)))
    except DataError:
        raise
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise DataError(f"it is not a TIFF image ({error.__class__.__name__})") from error
