"""Images of a split for an audit of its noise: a few samples of every noisy field, with repeats and clean images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.configs.support.suggestions import did_you_mean
from quell.losses.noise.audit import FieldImages
from quell.losses.noise.material import SMALLEST
from quell.shards.reading.shard_set import ShardSet

Image = NDArray[np.generic]

SAMPLES, LARGEST_PX = 24, 512
"""Samples that are read, and the side to which larger images are cropped around their centre."""
CLEAN, SECOND = "_clean", "_second"
"""Endings of the fields that hold a field's clean image and its repeat."""
NOT_NOISY = ("clean", "mask", "reference")
"""Names, and endings of names, of fields that are not noisy images."""


def noisy_fields(shards: ShardSet) -> list[str]:
    """The fields of a split whose noise can be asked for: complete, and neither clean images nor repeats."""
    complete = [name for name, info in shards.fields.items() if info.count == len(shards)]
    return [name for name in complete if not name.endswith((SECOND, *NOT_NOISY))]


def read_fields(
    shards: ShardSet,
    fields: Sequence[str] | None = None,
    *,
    samples: int = SAMPLES,
    largest_px: int = LARGEST_PX,
    alone: bool = False,
) -> dict[str, FieldImages]:
    """Read samples spread evenly over a split.

    Args:
        shards: The split.
        fields: The noisy fields; all of them if not given.
        samples: At most so many samples.
        largest_px: Larger images are cropped to this side, around their centre.
        alone: Whether to leave repeats and clean images unread.

    Raises:
        DataError: There is no such field, or no noisy one, or the images are too small.
    """
    known = noisy_fields(shards)
    for name in fields or ():
        if name not in shards.fields:
            raise DataError(f"{shards.path}: no field '{name}'; {did_you_mean(name, list(shards.fields))}")
    chosen = list(fields or known)
    if not chosen:
        raise DataError(
            f"{shards.path}: no field of noisy images among {', '.join(shards.fields)}; name one with --field"
        )
    numbers = np.unique(np.linspace(0, len(shards) - 1, min(samples, len(shards))).astype(int)).tolist()
    found = {}
    for name in chosen:
        images = _read(shards, numbers, name, largest_px)
        large_enough = [number for number, image in enumerate(images) if min(image.shape[:2]) >= SMALLEST]
        if not large_enough:
            raise DataError(f"{shards.path}: the images of '{name}' are smaller than {SMALLEST} pixels a side")
        others = [None if alone else _partner(shards, name, ending) for ending in (CLEAN, SECOND)]
        clean, second = (None if other is None else _read(shards, numbers, other, largest_px) for other in others)
        found[name] = FieldImages(
            [images[number] for number in large_enough],
            _matching(images, clean, large_enough),
            _matching(images, second, large_enough),
        )
    return found


def _partner(shards: ShardSet, name: str, ending: str) -> str | None:
    """The complete field that holds a field's clean image or repeat: pd_clean for pd, clean for noisy."""
    for other in (name + ending, *([ending.removeprefix("_")] if name == "noisy" else [])):
        if other in shards.fields and shards.fields[other].count == len(shards):
            return other
    return None


def _matching(images: list[Image], others: list[Image] | None, numbers: list[int]) -> list[Image] | None:
    """The others of these numbers; None where one is not of its image's shape."""
    if others is None or any(images[number].shape != others[number].shape for number in numbers):
        return None
    return [others[number] for number in numbers]


def _read(shards: ShardSet, numbers: list[int], name: str, largest_px: int) -> list[Image]:
    return [_cropped(shards.read(number, name, verify=False), largest_px) for number in numbers]


def _cropped(image: Image, side: int) -> Image:
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    top, left = ((length - min(length, side)) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]
