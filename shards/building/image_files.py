"""Image files: reading them as arrays, and matching the files of one sample by their names."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.shards.format import members
from quell.shards.format.index import plain_shape
from quell.shards.image_files.image import DataRange, StoredImage, suggested_data_range
from quell.shards.image_files.read import read_one
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import leave_out

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".npy")
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the luminance (ITU-R BT.601)."""


def read_image(path: Path, *, grey: bool = False) -> np.ndarray:
    """Read an image in stored units, as a viewer shows it: upright, black as the smallest number, palettes expanded.

    Args:
        path: A file with one of SUFFIXES.
        grey: Convert colour to luminance, in the dtype of the file.

    Returns:
        An array (H, W) or (H, W, C).

    Raises:
        DataError: The file cannot be read, or is not a single image without transparency.
    """
    return _pixels(read_one(path), grey)


def _pixels(image: StoredImage, grey: bool) -> np.ndarray:
    pixels = image.single()
    if pixels.dtype == bool:  # as 1-bit images, which are read over the full range of 8 bits
        pixels = pixels.astype(np.uint8) * 255
    if grey and pixels.ndim == 3:
        luminance = pixels[..., :3].astype(np.float64) @ LUMA
        pixels = (np.rint(luminance) if pixels.dtype.kind in "ui" else luminance).astype(pixels.dtype)
    return pixels


def check_encodable(path: Path) -> None:
    """Check that training will read a file that is stored as it is in the way the file's reader does.

    Raises:
        DataError: Its orientation, its palette, its transparency or the like would be lost.
    """
    expected = read_image(path)
    codec = path.suffix[1:].lower()
    try:
        data = path.read_bytes()
        header = members.read_header(codec, data, len(data))
        decoded = members.decode(header.encoding, header.start, header.shape, data)
    except DataError as error:
        raise DataError(f"{path}: cannot be stored as it is ({error}); omit --encoded") from error
    decoded = decoded.reshape(plain_shape(decoded.shape))
    if decoded.shape != expected.shape or not np.array_equal(decoded, expected):
        raise DataError(
            f"{path}: cannot be stored as it is, because training would not apply its orientation, palette or meaning "
            "of black and white; omit --encoded"
        )


def read_fields(files: Mapping[str, Path], *, grey: bool = False) -> dict[str, np.ndarray]:
    """Read the images of one sample. Raises DataError where they differ in height or width."""
    return read_sample_fields(files, grey=grey)[0]


def read_sample_fields(
    files: Mapping[str, Path], *, grey: bool = False
) -> tuple[dict[str, np.ndarray], DataRange | None]:
    """Read the images of one sample, and the data range that their files state, if all state the same.

    Raises:
        DataError: A file cannot be read, or the images differ in height or width.
    """
    stored = {name: read_one(path) for name, path in files.items()}
    images = {name: _pixels(image, grey) for name, image in stored.items()}
    first = next(iter(images))
    for name, image in images.items():
        if image.shape[:2] != images[first].shape[:2]:
            raise DataError(
                f"{files[name]} is {image.shape[0]} x {image.shape[1]} but {files[first]} is "
                f"{images[first].shape[0]} x {images[first].shape[1]}"
            )
    stated = {suggested_data_range(image) for image in stored.values()}
    return images, next(iter(stated)) if len(stated) == 1 else None


def list_images(folder: Path, pattern: str = "*") -> list[Path]:
    """The image files of a folder that match a glob, in name order; what is left out is noted.

    Raises DataError where there are none.
    """
    return list_files(folder, SUFFIXES, pattern=pattern, what="images")


def key_of(path: Path, pattern: str | None = None) -> str:
    """The key under which the files of one sample are matched.

    It is the file name without suffix or, with `pattern`, what the first group of this regular expression matches in
    it. Dots become dashes, because a dot ends a WebDataset key.
    """
    stem = path.stem
    if pattern:
        try:
            match = re.search(pattern, stem)
        except re.error as error:
            raise ConfigError(f"{pattern}: not a regular expression ({error})") from error
        if not match:
            raise DataError(f"{path}: its name does not match {pattern}")
        stem = match.group(1) if match.groups() else match.group(0)
        if not stem:
            raise DataError(f"{path}: the first group of {pattern} is empty in its name")
    return unicodedata.normalize("NFC", stem).replace(".", "-")  # one name has two forms, of which macOS writes NFD


def by_key(paths: Iterable[Path], pattern: str | None = None) -> dict[str, Path]:
    """Files by key. Raises DataError when two files have the same key."""
    files: dict[str, Path] = {}
    for path in paths:
        add_file(files, key_of(path, pattern), path)
    return files


def add_file(files: dict[str, Path], key: str, path: Path) -> None:
    """Add a file to `files`. Raises DataError where its key is already taken."""
    if key in files:
        raise DataError(
            f"{files[key]} and {path} have the same key {key}; rename one of them, or choose the part of a name that "
            "differs with --match"
        )
    files[key] = path


def match_fields(
    fields: Mapping[str, Mapping[str, Path]], *, allow_missing: bool = False
) -> dict[str, dict[str, Path]]:
    """Match the files of several fields by key.

    Args:
        fields: Field -> key -> file.
        allow_missing: Skip the keys for which a field has no file.

    Returns:
        Key -> field -> file, for the keys that every field has.

    Raises:
        DataError: A key has no file in some field, or no key has files in all.
    """
    keys = sorted(set().union(*(files.keys() for files in fields.values())))
    complete = [key for key in keys if all(key in files for files in fields.values())]
    if len(complete) < len(keys) and not allow_missing:
        first = next(key for key in keys if key not in set(complete))
        raise DataError(
            f"{len(keys) - len(complete)} of {len(keys)} names lack a partner: no {_lacking(fields, first)} image for "
            f"{first}; choose the part of a name to compare with --match, or skip these with --allow-missing"
        )
    for files in fields.values():
        for key in sorted(files.keys() - set(complete)):
            leave_out("file without partner", files[key], f"no {_lacking(fields, key)} image for {key}")
    if not complete:
        raise DataError(
            f"no name occurs in all of {', '.join(fields)}; choose the part of a name to compare with --match"
        )
    return {key: {name: files[key] for name, files in fields.items()} for key in complete}


def _lacking(fields: Mapping[str, Mapping[str, Path]], key: str) -> str:
    """The fields that have no file of this key, in words."""
    return " or ".join(name for name, files in fields.items() if key not in files)
