"""Images as a program holds them - arrays, tensors, Pillow's images - as what the command line restores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

from quell.configs.errors import DataError
from quell.launch.inference.files.given_array import GivenArray
from quell.launch.inference.files.opened import OpenedFile
from quell.launch.inference.inputs import RestorationInput

Image = np.ndarray | torch.Tensor | Pillow.Image
"""One image, or a stack of them."""

_MODES = ("L", "RGB", "F", "I;16", "I;16L", "I;16B", "LA", "RGBA")
"""Modes of Pillow whose numbers are the values of pixels, in the range of their type; "I" is any range, "P" indices."""


def given_images(images: object, fields: tuple[str, ...], which: str = "") -> RestorationInput:
    """What a program gives to be restored together.

    Args:
        images: An image, or a mapping with one for each field.
        fields: Those that the model restores, all of which it needs.
        which: What messages add to the names of the arrays.

    Raises:
        DataError: A field is missing, or something is no image.
    """
    if not isinstance(images, Mapping):
        images = {"": images}
        if len(fields) > 1:
            listed = ", ".join(f'"{field}": ...' for field in fields)
            raise DataError(f"this model restores {' and '.join(fields)} together: give {{{listed}}}")
    named = {str(name) or fields[0]: image for name, image in images.items()}
    opened: dict[str, OpenedFile] = {name: _opened(image, f"the array {name}{which}") for name, image in named.items()}
    missing = [name for name in fields if name not in opened]
    if missing:
        raise DataError(f"this model restores {' and '.join(fields)}, but {', '.join(missing)} is missing{which}")
    return RestorationInput(f"array{which}", {name: file.path for name, file in opened.items()}, opened=opened)


def _opened(image: object, name: str) -> GivenArray:
    return GivenArray(_as_array(image, name), name)


def _as_array(image: Any, name: str) -> np.ndarray:
    """An image as an array. Raises DataError where it is none, or where its numbers are not its pixels."""
    kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    if isinstance(image, np.ma.MaskedArray):
        raise DataError(f"{name}: a masked array, whose mask would be lost: give image.filled(value)")
    if isinstance(image, Pillow.Image) and image.mode not in _MODES:
        raise DataError(
            f"{name}: a Pillow image of mode '{image.mode}', whose numbers are no pixel values of a known range: give "
            "image.convert('L') or image.convert('RGB'), or an array"
        )
    try:
        if isinstance(image, torch.Tensor):
            return np.asarray(image.detach().cpu().resolve_conj().resolve_neg().numpy())
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name}: {kind} cannot become a NumPy array ({error}): give one") from error
    if array.dtype.kind == "O":
        raise DataError(
            f"{name}: {kind} is no image: give a NumPy array, a tensor, a Pillow image or the name of a file"
        )
    return array
