"""PNG, JPEG, BMP and WebP, by Pillow; PNG with 16-bit colour by imagecodecs.

Palettes become their colours, or grey where all entries are grey; 1-, 2- and 4-bit images become 8-bit ones; CMYK
becomes RGB; the EXIF orientation is applied. Opacity is kept apart.
"""

import warnings
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from quell.configs.errors import DataError, MachineError
from quell.shards.image_files.errors import reading
from quell.shards.image_files.geometry import Geometry, turned_layout
from quell.shards.image_files.image import Frame, StoredImage, Values
from quell.shards.image_files.png_chunks import check_chunks
from quell.shards.listing.finite import check_finite

FORMATS = {"PNG": "png", "JPEG": "jpeg", "MPO": "jpeg", "BMP": "bmp", "DIB": "bmp", "WEBP": "webp"}
"""Pillow's name of a format -> ours. MPO is a JPEG with further pictures, of which the first is the photograph."""

_ORIENTATION_TAG = 0x0112
_PNG_DEPTH, _PNG_COLOUR = 24, 25
"""Where a PNG has its bits per channel and its colour type (0 grey, 2 RGB, 3 palette, 4 grey + alpha, 6 RGBA)."""


def read(path: Path) -> list[StoredImage]:
    """Read a PNG, JPEG, BMP or WebP file.

    `source` is a dict: `mode` (Pillow's), `info` (EXIF, ICC profile, resolution, text).

    Raises:
        DataError: The file is damaged, an animation, or of another format.
        MachineError: imagecodecs is needed and missing.
    """
    with reading(path, f"cannot be read as {path.suffix[1:].lower()}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the size of images and about damaged EXIF
        try:
            file = Image.open(path)
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: it is not an image") from error
        with file:
            if file.format not in FORMATS:
                raise DataError(f"{path}: its content is {file.format}; expected PNG, JPEG, BMP or WebP")
            frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format != "MPO":
                raise DataError(f"{path}: an animation of {frames} frames; expected one image")
            if file.format == "PNG":
                check_chunks(path)
            return [_read(path, file)]


def _read(path: Path, file: ImageFile.ImageFile) -> StoredImage:
    mode, is_cmyk = file.mode, file.mode == "CMYK"
    array, photometric, bits = _pixels(path, file)
    info = dict(file.info)  # complete only after the pixels were read
    axes = "HWC" if array.ndim == 3 else "HW"
    layout = turned_layout(array.shape, axes, axes, orientation_of(file))
    image = layout.apply(array)[None]
    alpha = None
    if image.ndim == 4 and image.shape[3] in (2, 4):
        image, alpha = image[..., :-1], np.ascontiguousarray(image[..., -1])
    if image.ndim == 4 and image.shape[3] == 1:
        image = image[..., 0]
    image = np.ascontiguousarray(image)
    check_finite(image, str(path))
    values = Values(array.dtype.name, "CMYK" if is_cmyk else photometric, bits_stored=bits)
    source = {"mode": mode, "info": info}
    frame = Frame(path, 0, "")
    kind = FORMATS[str(file.format)]
    return StoredImage(image, path, kind, values, Geometry(layout), (frame,), alpha=alpha, source=source)


def orientation_of(file: Image.Image) -> int:
    """The EXIF orientation of an open file; 1 where there is none or EXIF is damaged."""
    try:
        return int(file.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # EXIF is often damaged, and viewers show such images unturned
        return 1


def _pixels(path: Path, file: ImageFile.ImageFile) -> tuple[np.ndarray, str, int]:
    """Pixels (H, W) or (H, W, C) with the opacity as last channel; what the file calls them; bits per channel."""
    if file.format == "PNG":
        with open(path, "rb") as raw:
            start = raw.read(_PNG_COLOUR + 1)
        if start[_PNG_DEPTH] == 16 and start[_PNG_COLOUR] != 0:
            return _deep_png(path), "RGB" if start[_PNG_COLOUR] & 2 else "grey", 16
    mode = file.mode
    if mode.startswith("I"):  # 16-bit grey; older versions of Pillow call it I
        array = np.asarray(file).astype(np.uint16)
        key = file.info.get("transparency")
        if key is None:
            return array, "grey", 16
        return np.stack([array, np.where(array == key, 0, 65535).astype(np.uint16)], axis=-1), "grey", 16
    if mode == "CMYK":
        return np.asarray(file.convert("RGB")), "CMYK", 8
    file.load()  # the transparency of a palette is known only now
    has_alpha = mode in ("LA", "PA", "RGBA") or "transparency" in file.info
    if mode in ("P", "PA"):
        colours = np.asarray(file.convert("RGBA" if has_alpha else "RGB"))
        if _is_grey_palette(file):
            return colours[..., [0, 3]] if has_alpha else colours[..., 0], "palette", 8
        return colours, "palette", 8
    if mode in ("1", "L", "LA"):
        return np.asarray(file.convert("LA" if has_alpha else "L")), "grey", 8
    return np.asarray(file.convert("RGBA" if has_alpha else "RGB")), "RGB", 8


def _is_grey_palette(file: ImageFile.ImageFile) -> bool:
    palette = np.array(file.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def _deep_png(path: Path) -> np.ndarray:
    try:
        decode = import_module("imagecodecs").png_decode
    except (ImportError, AttributeError) as error:
        raise MachineError(
            f"{path}: Pillow would read this 16-bit PNG with 8 bits per channel; install imagecodecs "
            "(pip install imagecodecs), or convert the image to TIFF"
        ) from error
    return np.asarray(decode(path.read_bytes()))
