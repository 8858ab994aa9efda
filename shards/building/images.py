"""Image files -> arrays, and files that belong together found by their names."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DataError
from shards.format import members
from shards.format.index import plain_shape

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy")
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def read(path: Path, *, grey: bool = False) -> np.ndarray:
    """An image as stored, (H, W) or (H, W, C); with `grey` RGB becomes luminance of the same type.

    Raises DataError naming the file.
    """
    codec = path.suffix[1:].lower()
    try:
        data = path.read_bytes()
        header = members.read_header(codec, data, len(data))
        image = members.decode(header.encoding, header.start, header.shape, data)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    image = image.reshape(plain_shape(image.shape))
    if grey and image.ndim == 3:
        mixed = image[..., :3].astype(np.float64) @ LUMA
        image = (np.rint(mixed) if image.dtype.kind == "u" else mixed).astype(image.dtype)
    return image


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """The image files of a folder that match a glob, by name. Raises DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{folder}: no images match {pattern} (known: {' '.join(SUFFIXES)})")
    return found


def key_of(path: Path, match: str | None = None) -> str:
    """The name under which files of one sample meet: the stem, or what the first group of `match` finds in it.

    Dots, which would end a WebDataset key, become dashes.
    """
    stem = path.stem
    if match:
        try:
            found = re.search(match, stem)
        except re.error as error:
            raise ConfigError(f"{match}: not a regular expression ({error})") from error
        if not found:
            raise DataError(f"{path}: its name does not match {match}")
        stem = found.group(1) if found.groups() else found.group(0)
        if not stem:
            raise DataError(f"{path}: the first group of {match} is empty in its name")
    return stem.replace(".", "-")


def by_key(paths: Iterable[Path], match: str | None = None) -> dict[str, Path]:
    """Files by key. Raises DataError when two files have the same key."""
    found: dict[str, Path] = {}
    for path in paths:
        key = key_of(path, match)
        if key in found:
            raise DataError(f"{found[key]} and {path} have the same key {key}")
        found[key] = path
    return found


def pairs(fields: dict[str, dict[str, Path]], *, allow_missing: bool = False) -> dict[str, dict[str, Path]]:
    """Key -> field -> file, for keys every field has. Raises DataError naming the first key a field lacks."""
    keys = sorted(set().union(*(files.keys() for files in fields.values())))
    whole = [key for key in keys if all(key in files for files in fields.values())]
    if len(whole) < len(keys) and not allow_missing:
        lost = next(key for key in keys if key not in set(whole))
        lacking = [name for name, files in fields.items() if lost not in files]
        raise DataError(
            f"{len(keys) - len(whole)} of {len(keys)} names lack a partner: no {' or '.join(lacking)} "
            f"image for {lost}; see --match and --allow-missing"
        )
    if not whole:
        raise DataError(f"no name is common to {', '.join(fields)}; --match REGEX says what of a name to compare")
    return {key: {name: files[key] for name, files in fields.items()} for key in whole}


def load_fields(chosen: dict[str, Path], *, grey: bool = False) -> dict[str, np.ndarray]:
    """The images of one sample; refuses fields of different height and width."""
    images = {name: read(path, grey=grey) for name, path in chosen.items()}
    first = next(iter(images))
    for name, image in images.items():
        if image.shape[:2] != images[first].shape[:2]:
            raise DataError(
                f"{chosen[name]} is {image.shape[0]} x {image.shape[1]} but {chosen[first]} is "
                f"{images[first].shape[0]} x {images[first].shape[1]}"
            )
    return images
