"""What the numbers of a TIFF page mean: photometric interpretation, palettes, bits, opacity."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tifffile import COMPRESSION, PHOTOMETRIC, TiffPage

from quell.configs.errors import DataError
from quell.shards.image_files.image import Values

ALPHA = (1, 2)
"""ExtraSamples that are opacity: associated (premultiplied) and unassociated."""
SMALL_DEPTHS = {1: 255, 2: 85, 4: 17}
"""Bits of a small grey image -> the factor that makes it an 8-bit one."""
MAX_SAMPLE_VALUE = 281
JPEGS = (COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY, COMPRESSION.JPEG_2000_LOSSY)
"""Compressions whose decoders return RGB for YCbCr."""


@dataclass(frozen=True)
class PixelMeaning:
    """How stored numbers become pixels."""

    values: Values
    has_alpha: bool
    """Whether the last channel of what `decode` returns is opacity."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Stored numbers -> pixels in native byte order. Channels, where there are any, are the last axis."""


def pixel_meaning(page: TiffPage, path: Path) -> PixelMeaning:
    """How the numbers of a page are to be understood. Raises DataError for meanings that are not supported."""
    dtype = page.dtype
    if dtype is None or dtype.kind not in "buifc":
        raise DataError(f"{path}: samples of {page.bitspersample} bits are not supported; expected numbers")
    photometric = _photometric(page, path)
    has_alpha = bool(page.extrasamples) and int(page.extrasamples[-1]) in ALPHA
    if photometric == PHOTOMETRIC.PALETTE:
        return _palette(page, path)
    if photometric == PHOTOMETRIC.SEPARATED:
        return _cmyk(page, path)
    if photometric == PHOTOMETRIC.MINISWHITE:
        return _white_is_zero(page, path, dtype, has_alpha)
    return PixelMeaning(_values(page, dtype, photometric.name), has_alpha, lambda stored: _scaled(stored, page))


def native(array: np.ndarray) -> np.ndarray:
    """The array in the byte order of the machine, contiguous."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def _photometric(page: TiffPage, path: Path) -> PHOTOMETRIC:
    """The photometric interpretation; grey or RGB by the number of samples where the tag is missing."""
    if 262 not in page.tags:
        return PHOTOMETRIC.RGB if page.samplesperpixel in (3, 4) else PHOTOMETRIC.MINISBLACK
    try:
        photometric = PHOTOMETRIC(int(page.photometric))
    except ValueError as error:
        raise DataError(f"{path}: unknown photometric interpretation {page.photometric}") from error
    supported = (
        PHOTOMETRIC.MINISBLACK,
        PHOTOMETRIC.MINISWHITE,
        PHOTOMETRIC.RGB,
        PHOTOMETRIC.PALETTE,
        PHOTOMETRIC.SEPARATED,
    )
    if photometric in supported or (photometric == PHOTOMETRIC.YCBCR and page.compression in JPEGS):
        return photometric
    raise DataError(
        f"{path}: photometric interpretation {photometric.name} is not supported; convert the image to grey or RGB"
    )


def _values(page: TiffPage, dtype: np.dtype, photometric: str, *, inverted: bool = False) -> Values:
    if dtype.kind not in "bu":
        return Values(dtype.name, photometric)
    bits = min(int(page.bitspersample), 8 * dtype.itemsize)
    if bits in SMALL_DEPTHS and dtype.itemsize == 1:
        return Values(dtype.name, photometric, inverted, 255.0 * inverted, 8)
    around = float(2**bits - 1) * inverted
    highest = page.tags.get(MAX_SAMPLE_VALUE)
    if highest is not None:
        top = int(np.max(highest.value))
        bits = min(bits, top.bit_length()) if top > 0 else bits
    return Values(dtype.name, photometric, inverted, around, bits)


def _scaled(stored: np.ndarray, page: TiffPage) -> np.ndarray:
    """Native byte order; 1-, 2- and 4-bit numbers over the full range of 8 bits."""
    if stored.dtype.kind in "bu" and stored.dtype.itemsize == 1 and page.bitspersample in SMALL_DEPTHS:
        return np.ascontiguousarray(stored.astype(np.uint8) * np.uint8(SMALL_DEPTHS[page.bitspersample]))
    return native(stored)


def _white_is_zero(page: TiffPage, path: Path, dtype: np.dtype, has_alpha: bool) -> PixelMeaning:
    if dtype.kind not in "bu":
        raise DataError(
            f"{path}: white is stored as zero (MINISWHITE) in {dtype.name}, for which the number of black is not "
            "defined; save it with black as zero"
        )
    values = _values(page, dtype, "MINISWHITE", inverted=True)

    def decode(stored: np.ndarray) -> np.ndarray:
        pixels = _scaled(stored, page)
        top = pixels.dtype.type(values.inverted_around)
        inverse = np.where(pixels > top, 0, top - pixels).astype(pixels.dtype)
        if has_alpha:
            inverse[..., -1] = pixels[..., -1]
        return inverse

    return PixelMeaning(values, has_alpha, decode)


def _palette(page: TiffPage, path: Path) -> PixelMeaning:
    if page.colormap is None or page.samplesperpixel != 1:
        raise DataError(f"{path}: a palette image without a usable palette")
    colours = palette_colours(page)
    is_grey = bool((colours == colours[:, :1]).all())
    table = colours[:, 0] if is_grey else colours

    def decode(stored: np.ndarray) -> np.ndarray:
        if stored.size and int(stored.max()) >= len(table):
            raise DataError(f"{path}: a pixel has palette entry {int(stored.max())} of {len(table)}")
        return np.ascontiguousarray(table[stored.astype(np.intp)])

    return PixelMeaning(Values(page.dtype.name if page.dtype else "uint8", "PALETTE", bits_stored=8), False, decode)


def palette_colours(page: TiffPage) -> np.ndarray:
    """The colours of a palette, uint8 (entries, 3). TIFF stores 16 bits; some programs write 0 to 255 instead."""
    stored = np.asarray(page.colormap)
    return np.asarray((stored if stored.max(initial=0) < 256 else stored >> 8).T, dtype=np.uint8)


def _cmyk(page: TiffPage, path: Path) -> PixelMeaning:
    ink_set = page.tags.get(332)
    if page.dtype != np.uint8 or page.samplesperpixel != 4 or (ink_set is not None and ink_set.value != 1):
        raise DataError(f"{path}: only 8-bit CMYK is read of the images with inks; convert it to RGB")

    def decode(stored: np.ndarray) -> np.ndarray:
        inks = np.ascontiguousarray(stored.reshape(-1, stored.shape[-2], 4))
        rgb = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
        return rgb.reshape(*stored.shape[:-1], 3)

    return PixelMeaning(Values("uint8", "CMYK", bits_stored=8), False, decode)
