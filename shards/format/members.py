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

from quell.configs.errors import DataError

IMAGES = ("png", "jpg", "jpeg", "tif", "tiff")
ARRAYS = ("npy",)
REFUSED = {
    **dict.fromkeys(("pkl", "pickle", "pyd", "pth", "pt"), "pickled members can run code when they are loaded"),
    **dict.fromkeys(("gz", "bz2", "xz", "zst", "npz", "zip", "tgz"), "compressed members cannot be read in place"),
}
"""Extension -> why members that have it are refused."""
MAX_NPY_HEADER_BYTES = 65536
RESERVED_FIELDS = ("key", "shard")
"""Columns of the index's table beside those of fields."""
MAX_KEY_BYTES = 1024
"""Longest key: each sample takes as much room in the index as the longest one needs."""

_DTYPES = re.compile(r"[<>|=]?(f[248]|c8|c16|[iu][1248]|b1)")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH, _PNG_COLOUR = 24, 25
"""Where the first chunk of a PNG has its bits per channel and its colour type (0 grey, 2 RGB, 6 RGBA)."""
_JPEG_END = b"\xff\xd9"


class Encoding(NamedTuple):
    """How a member's bytes become an array; a data set has a few of these."""

    codec: str
    """npy, png, jpg, jpeg, tif, tiff or json."""
    dtype: str
    """numpy's name with byte order, e.g. <f4, of what decoding returns."""
    fortran: bool = False
    """Whether a plain array is stored in column-major order."""


class MemberHeader(NamedTuple):
    """What the first bytes of a member tell about it."""

    encoding: Encoding
    start: int
    """Bytes before the first pixel of a plain array; 0 for encoded images."""
    shape: tuple[int, ...]


def split_name(name: str) -> tuple[str, str, str] | None:
    """Split `dir/key.field.ext` into key (with folders), field and codec.

    WebDataset's rule: the key ends at the first dot of the last part of the path. A member without a field name, such
    as `key.png`, is the field `png`. None where the name has no dot or no key.
    """
    folder, slash, last = name.rpartition("/")
    key, dot, rest = last.partition(".")
    if not dot or not key or not rest:
        return None
    field, _, codec = rest.lower().rpartition(".")
    return folder + slash + key, field or codec, codec


def name_problem(key: str, field: str, codec: str) -> str | None:
    """Why the name of a member cannot be used, to follow "member x is refused: "; None where it can."""
    if any("\ud800" <= character <= "\udfff" for character in key + field):
        return "its name is not UTF-8 text"
    if any(character < " " or character == "\x7f" for character in key + field):
        return "its name contains a control character"
    if len(key.encode()) > MAX_KEY_BYTES:
        return f"its key has {len(key.encode())} bytes, at most {MAX_KEY_BYTES} are indexed"
    if field in RESERVED_FIELDS or (field == "json" and codec != "json"):
        return f"'{field}' is what the index itself calls a column; give the field another name"
    return None


def read_header(codec: str, data: bytes | memoryview, size: int) -> MemberHeader:
    """Encoding and shape of a member, without decoding its pixels.

    Args:
        codec: Extension of the member, one of IMAGES or ARRAYS.
        data: The member's bytes; of a plain array the first MAX_NPY_HEADER_BYTES are enough.
        size: Bytes of the whole member.

    Raises:
        DataError: The member cannot be used. The message is the reason alone; the caller adds shard and member.
    """
    if codec in ARRAYS:
        return _npy_header(data, size)
    if codec in ("tif", "tiff"):
        return _tiff_header(bytes(data))
    return _image_header(codec, bytes(data))


def decode(encoding: Encoding, start: int, shape: tuple[int, ...], data: bytearray | bytes | memoryview) -> np.ndarray:
    """The array of a whole member; a plain array is a view of `data`.

    Raises:
        DataError: The image cannot be decoded; the message is the reason alone.
    """
    if encoding.codec in ARRAYS:
        dtype = np.dtype(encoding.dtype)
        return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if encoding.fortran else "C")
    if (image := _decode_fast(encoding.codec, data, shape)) is not None:
        return image
    try:
        if encoding.codec in ("tif", "tiff"):
            return tifffile.imread(io.BytesIO(data))
        with Image.open(io.BytesIO(data)) as opened:
            mode = _mode(opened)
            if mode == "I;16":
                return np.asarray(opened).astype("<u2")
            return np.asarray(opened if opened.mode == mode else opened.convert(mode))
    except Exception as error:  # decoders raise many types on damaged files, MemoryError among them
        raise DataError(f"the image cannot be decoded ({error.__class__.__name__}: {error})") from error


def npy_bytes(array: np.ndarray) -> tuple[bytes, memoryview]:
    """Header and pixels of an array as a .npy file in C order, little endian; the pixels are not copied."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    return header.getvalue(), array.reshape(-1).view(np.uint8).data


def _decode_fast(codec: str, data: bytearray | bytes | memoryview, shape: tuple[int, ...]) -> np.ndarray | None:
    """Decode a plain 8-bit grey or RGB image through imagecodecs, which takes half to two thirds of Pillow's time.

    None where imagecodecs is not installed, for every other image (palettes and transparency are Pillow's business),
    and for damaged ones, for which Pillow has the clearer messages.
    """
    if codec == "png":
        is_plain = len(data) > _PNG_COLOUR and data[_PNG_DEPTH] == 8 and data[_PNG_COLOUR] in (0, 2)
    else:  # the decoder would fill the missing part of a truncated JPEG with grey
        is_plain = codec in ("jpg", "jpeg") and bytes(data[-2:]) == _JPEG_END
    decoder = _decoder("png_decode" if codec == "png" else "jpeg8_decode") if is_plain else None
    if decoder is None:
        return None
    try:
        image = decoder(bytes(data))
    except Exception:
        return None
    return image if image.shape == shape and image.dtype == np.uint8 else None


@lru_cache(maxsize=2)
def _decoder(name: str) -> Callable[[bytes], np.ndarray] | None:
    try:
        decoder: Callable[[bytes], np.ndarray] = getattr(importlib.import_module("imagecodecs"), name)
    except (ImportError, AttributeError):
        return None
    return decoder


def _npy_header(data: bytes | memoryview, size: int) -> MemberHeader:
    """Parse a .npy header by hand: numpy's own parser takes a file object and far longer."""
    if bytes(data[:6]) != b"\x93NUMPY" or len(data) < 12:
        raise DataError("it is not a .npy array")
    text_start = 12 if data[6] >= 2 else 10  # from format version 2 on the length has four bytes instead of two
    start = text_start + int.from_bytes(data[8:text_start], "little")
    if start > min(len(data), MAX_NPY_HEADER_BYTES - 1):
        raise DataError("its .npy header is truncated or larger than 64 KiB")
    dtype, fortran, shape = _npy_fields(bytes(data[text_start:start]))
    if size != start + int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize:
        raise DataError(f"it holds {size - start} bytes of pixels, which shape {shape} of {dtype} does not fill")
    return MemberHeader(Encoding("npy", dtype, fortran), start, shape)


@lru_cache(maxsize=4096)  # the images of a split have few different headers
def _npy_fields(text: bytes) -> tuple[str, bool, tuple[int, ...]]:
    """Dtype, order and shape of a .npy header."""
    try:
        fields = ast.literal_eval(text.decode("latin1").strip())
        dtype, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        is_valid = isinstance(dtype, str) and isinstance(shape, tuple) and all(type(side) is int for side in shape)
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise DataError("its .npy header cannot be parsed") from error
    if isinstance(dtype, str) and dtype.startswith("|O"):
        raise DataError("its .npy array holds pickled objects, which can run code when they are loaded")
    if not is_valid or not _DTYPES.fullmatch(dtype):
        raise DataError(f"dtype {dtype!r} is not supported: expected float, complex, integer or bool")
    return dtype, bool(fortran), _checked(shape)


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape if it is one of an image: (H, W), (H, W, C) with at most 16 channels, or (1, H, W)."""
    is_plain = len(shape) == 2 or (len(shape) == 3 and (shape[2] <= 16 or shape[0] == 1))
    if not is_plain or min(shape) < 1 or max(shape) >= 2**31:
        raise DataError(f"shape {shape} is not an image (H, W), (H, W, C) with up to 16 channels, or (1, H, W)")
    return shape


def _mode(image: Image.Image) -> str:
    """The Pillow mode to read an image in: grey, 16-bit grey or RGB; palettes and transparency are resolved."""
    if image.mode.startswith("I"):
        return "I;16"
    if image.mode in ("L", "RGB"):
        return image.mode
    return "L" if image.mode in ("1", "LA") else "RGB"


def _image_header(codec: str, data: bytes) -> MemberHeader:
    is_png = data.startswith(_PNG_SIGNATURE) and len(data) > _PNG_COLOUR
    if is_png and data[_PNG_DEPTH] == 16 and data[_PNG_COLOUR] in (2, 6):
        raise DataError("Pillow reads 16-bit colour PNG with 8 bits per channel: store it as .npy or .tif")
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, (width, height) = _mode(image), image.size
    except Exception as error:  # Pillow raises many types on damaged files, warnings about their size among them
        raise DataError(f"it is not an image Pillow can read ({error.__class__.__name__})") from error
    dtype = "<u2" if mode == "I;16" else "|u1"
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return MemberHeader(Encoding(codec, dtype), 0, _checked(shape))


def _tiff_header(data: bytes) -> MemberHeader:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as image:
            series = image.series[0]
            dtype, shape = np.dtype(series.dtype).str, tuple(series.shape)
    except Exception as error:  # tifffile raises many types on damaged files
        raise DataError(f"it is not a TIFF image ({error.__class__.__name__})") from error
    return MemberHeader(Encoding("tif", dtype), 0, _checked(shape))
