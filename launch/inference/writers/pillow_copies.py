"""Copies of PNG, JPEG, WebP and BMP files with other pixels.

What is not pixels is taken from the source byte for byte where the format allows it: the chunks of a PNG, the markers
of a JPEG, the header of a BMP. Pillow encodes the pixels.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin

from quell.configs.errors import DataError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_OF_COLOUR_TYPE = (b"PLTE", b"tRNS", b"hIST", b"bKGD", b"sBIT")
"""PNG chunks that mean something else, or nothing, once the colour type or the depth has changed."""
_KEPT_MARKERS = (*range(0xE0, 0xF0), 0xFE)
"""Markers of a JPEG that are not pixels: APP0 to APP15 (JFIF, EXIF, XMP, ICC, Adobe) and comments."""
_ADOBE_MARKER = 0xEE
_FURTHER_PICTURES = b"MPF\0"
_BMP_BITS, _BMP_COMPRESSION = 28, 30
"""Offsets of bits per pixel and compression in a BMP file with a header of 40 bytes or more."""


def write_png(source: Path, target: Path, pixels: np.ndarray) -> list[str]:
    """Write a PNG with the chunks of another: text, gamma, profile, resolution, time, EXIF.

    Args:
        source: The PNG whose chunks are kept.
        target: Where to write.
        pixels: (H, W) or (H, W, C), uint8, uint16 or bool; C is 2 or 4 where there is transparency.

    Returns:
        What could not be kept, one sentence each.
    """
    old = list(_png_chunks(source.read_bytes()))
    is_bilevel = old[0][1][8:10] == b"\1\0"
    new = list(_png_chunks(_encode_png(pixels >= 128 if is_bilevel and pixels.ndim == 2 else pixels)))
    old_header, new_header = old[0][1], new[0][1]
    same_kind = old_header[8:10] == new_header[8:10]
    notes = [] if same_kind else ["its palette, transparent colour or small depth became plain 8-bit values"]
    with open(target, "wb") as file:
        file.write(_PNG_SIGNATURE)
        _write_chunk(file, b"IHDR", new_header)
        has_pixels = False
        for kind, data in old[1:]:
            if kind == b"IDAT":
                if not has_pixels:
                    for new_kind, new_data in new:
                        if new_kind == b"IDAT":
                            _write_chunk(file, new_kind, new_data)
                has_pixels = True
            elif same_kind or kind not in _OF_COLOUR_TYPE:
                _write_chunk(file, kind, data)
    return notes


def write_jpeg(source: Path, target: Path, pixels: np.ndarray) -> list[str]:
    """Write a JPEG with the quantisation tables, the subsampling and the markers of another.

    Args:
        source: The JPEG whose settings and markers (EXIF, profile, resolution, XMP, comments) are kept.
        target: Where to write.
        pixels: (H, W) or (H, W, 3), uint8.

    Returns:
        What could not be kept, one sentence each.
    """
    content = source.read_bytes()
    found = [(marker, data) for marker, data in _jpeg_markers(content) if marker in _KEPT_MARKERS]
    markers = [(marker, data) for marker, data in found if not data.startswith(_FURTHER_PICTURES)]
    with Image.open(source) as opened:
        assert isinstance(opened, JpegImagePlugin.JpegImageFile)
        is_progressive = bool(opened.info.get("progressive"))
        sampling = JpegImagePlugin.get_sampling(opened) if pixels.ndim == 3 and opened.mode == "RGB" else -1
        tables = dict(opened.quantization)
    adobe = next((data for marker, data in markers if marker == _ADOBE_MARKER and data.startswith(b"Adobe")), b"")
    is_jfif = any(data.startswith(b"JFIF") for _, data in markers)  # which means YCbCr, whatever Adobe's marker says
    stores_rgb = pixels.ndim == 3 and adobe[11:12] == b"\0" and not is_jfif
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer,
        "JPEG",
        **({"qtables": tables} if tables else {"quality": 100}),
        subsampling=0 if stores_rgb else sampling,
        progressive=is_progressive,
        keep_rgb=stores_rgb,
    )
    encoded = buffer.getvalue()
    target.write_bytes(
        b"\xff\xd8"
        + b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in markers)
        + _without_markers(encoded)
    )
    if tables:
        notes = ["JPEG loses a little again on writing; its quality and subsampling are those of the input"]
    else:
        notes = ["it is a lossless JPEG, which became an ordinary one of quality 100"]
    return notes if len(markers) == len(found) else [*notes, "the further pictures in it (MPO) are left out"]


def write_webp(source: Path, target: Path, pixels: np.ndarray) -> list[str]:
    """Write a lossless WebP with the EXIF, profile and XMP of another; a WebP does not record its quality.

    Args:
        source: The WebP whose metadata are kept.
        target: Where to write.
        pixels: (H, W, 3) or (H, W, 4), uint8.

    Returns:
        What could not be kept, one sentence each.
    """
    with Image.open(source) as opened:
        metadata = {key: opened.info[key] for key in ("exif", "icc_profile", "xmp") if key in opened.info}
    Image.fromarray(pixels).save(target, "WEBP", lossless=True, exact=True, **metadata)
    return (
        [] if _is_lossless(source.read_bytes()) else ["written without loss, because a WebP does not say its quality"]
    )


def write_bmp(source: Path, target: Path, pixels: np.ndarray) -> list[str]:
    """Write a BMP with the header of another, where its pixels are 8-bit grey, 24-bit or 32-bit.

    Args:
        source: The BMP whose header is kept.
        target: Where to write.
        pixels: (H, W), (H, W, 3) or (H, W, 4), uint8 or bool.

    Returns:
        What could not be kept, one sentence each.
    """
    content = bytearray(source.read_bytes())
    start, header_size, width, height = struct.unpack_from("<IIii", content, 10)
    bits, compression = struct.unpack_from("<HI", content, _BMP_BITS)
    bytes_per_pixel = bits // 8
    stride = (width * bits + 31) // 32 * 4
    samples = 1 if pixels.ndim == 2 else pixels.shape[-1]
    in_place = header_size >= 40 and compression == 0 and pixels.dtype == np.uint8 and (bits, samples) in (
        (8, 1), (24, 3), (32, 3), (32, 4)
    )  # fmt: skip
    if in_place and bits == 8:
        in_place = _has_grey_palette(content, header_size)
    if not in_place or len(content) < start + stride * abs(height):
        with Image.open(source) as opened:
            resolution = {"dpi": opened.info["dpi"]} if "dpi" in opened.info else {}
        is_bilevel = bits == 1 and pixels.ndim == 2
        Image.fromarray(pixels >= 128 if is_bilevel else pixels).save(target, "BMP", **resolution)
        return [] if is_bilevel else ["its palette or compression became plain values"]
    rows = np.frombuffer(content, np.uint8, stride * abs(height), start).reshape(abs(height), stride)
    stored = rows[:, : width * bytes_per_pixel].reshape(abs(height), width, bytes_per_pixel)
    values = pixels[..., None] if samples == 1 else pixels[..., [2, 1, 0, *range(3, samples)]]
    stored[..., :samples] = values if height < 0 else values[::-1]
    target.write_bytes(content)
    return []


def _is_lossless(content: bytes) -> bool:
    """Whether a WebP has a chunk of lossless pixels."""
    position = 12
    while position + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, position)
        if kind == b"VP8L":
            return True
        position += 8 + length + length % 2
    return False


def _encode_png(pixels: np.ndarray) -> bytes:
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        try:
            import imagecodecs
        except ImportError as error:
            raise DataError("16-bit colour PNG needs imagecodecs: pip install imagecodecs") from error
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = len(_PNG_SIGNATURE)
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        yield kind, content[position + 8 : position + 8 + length]
        position += 12 + length


def _write_chunk(file: io.BufferedWriter, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _jpeg_markers(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The markers before the first scan."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xDA:
            return
        (length,) = struct.unpack_from(">H", content, position + 2)
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + length


def _without_markers(content: bytes) -> bytes:
    """A JPEG after its first two bytes, without the markers that are not pixels."""
    position, kept = 2, b""
    while content[position + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", content, position + 2)
        if content[position + 1] not in _KEPT_MARKERS:
            kept += content[position : position + 2 + length]
        position += 2 + length
    return kept + content[position:]


def _has_grey_palette(content: bytes | bytearray, header_size: int) -> bool:
    """Whether the index of a palette is the grey value itself."""
    (count,) = struct.unpack_from("<I", content, 46)
    palette = np.frombuffer(content, np.uint8, (count or 256) * 4, 14 + header_size).reshape(-1, 4)
    return len(palette) == 256 and bool((palette[:, :3] == np.arange(256)[:, None]).all())
