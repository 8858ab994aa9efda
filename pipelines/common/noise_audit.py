"""An audit of the noise in a method's training images, by what the method may look at: never by clean images."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec
from quell.losses.noise import audit
from quell.losses.noise.estimate import Estimate
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch

Image = NDArray[np.generic]

LARGEST_PX = 2**24
"""Pixels of a field after which no further images are examined."""

MOSTLY_CONSTANT = 0.5
"""Share of constant pixels from which an image has too few others to tell noise from structure."""

SMALLEST_PX = 64
"""Shortest side of images in which smooth regions are told from structure; noise in smaller ones counts as white."""


class NoiseAudit:
    """Collects whole training images in stored units, and estimates the noise of each field from them."""

    def __init__(self, fields: Sequence[str], specs: dict[str, FieldSpec]) -> None:
        self._specs = {name: specs[name] for name in fields}
        self._images: dict[str, list[Image]] = {name: [] for name in fields}
        self._seconds: dict[str, list[Image]] = {name: [] for name in fields}
        self._pixels = dict.fromkeys(fields, 0)

    def add(self, batch: Batch) -> None:
        """Keep the images of a batch, and their second copies where there are any."""
        for name, spec in self._specs.items():
            if self._pixels[name] >= LARGEST_PX:
                continue
            self._images[name] += _stored(batch[name], batch[f"{name}_scale"], spec)
            self._pixels[name] += batch[name].shape[0] * batch[name].shape[-2] * batch[name].shape[-1]
            if (second := second_of(name)) in batch:
                self._seconds[name] += _stored(batch[second], batch[f"{second}_scale"], spec)

    def estimates(self) -> tuple[dict[str, Estimate], list[str]]:
        """Field -> its noise, for the fields in which it could be examined; and why it could not be in the others."""
        found, problems = self._examined(from_repeats=False)
        return dict(found.estimates) if found else {}, problems

    def model(self, *, from_repeats: bool = False) -> tuple[NoiseModel | None, list[str]]:
        """The same as a model, with what contrasts share; None where no field could be examined.

        Raises DataError where repeats are required and missing.
        """
        found, problems = self._examined(from_repeats=from_repeats)
        return found.model if found else None, problems

    def _examined(self, *, from_repeats: bool) -> tuple[audit.NoiseAudit | None, list[str]]:
        usable: dict[str, audit.FieldImages] = {}
        problems: list[str] = []
        for name, images in self._images.items():
            seconds = self._seconds[name] if len(self._seconds[name]) == len(images) else None
            if from_repeats and not seconds:
                raise DataError(
                    f"pipeline.noise is from_repeats, but the shards hold no '{second_of(name)}': build them with "
                    "second copies, or set pipeline.noise to auto"
                )
            if not seconds and _smallest_px(images) < SMALLEST_PX:
                continue
            if not seconds and np.median([_constant_share(image) for image in images]) > MOSTLY_CONSTANT:
                problems.append(
                    f"the noise of '{name}' could not be examined, as most of each image is constant (masked or padded)"
                )
                continue
            usable[name] = audit.FieldImages(images, second=seconds or None)
        try:
            with np.errstate(all="ignore"):
                return (audit.audit_noise(usable) if usable else None), problems
        except DataError as error:
            named = " and ".join(f"'{name}'" for name in usable)
            return None, [*problems, f"the noise of {named} could not be examined: {error}"]


def noise_of(batches: Iterable[Batch], fields: Sequence[str], specs: dict[str, FieldSpec]) -> NoiseModel | None:
    """The noise of these fields; None where it could be examined in none of them."""
    collected = NoiseAudit(fields, specs)
    for batch in batches:
        collected.add(batch)
    return collected.model()[0]


def noise_of_image(batch: Batch, field: str, specs: dict[str, FieldSpec]) -> FieldNoise:
    """The noise of one field in a batch, whatever the others are. Raises DataError where it cannot be told."""
    collected = NoiseAudit([field], specs)
    collected.add(batch)
    if (smallest := _smallest_px(_stored(batch[field], batch[f"{field}_scale"], specs[field]))) < SMALLEST_PX:
        raise DataError(
            f"the noise of '{field}' could not be examined, as noise is told from structure in images of at least "
            f"{SMALLEST_PX} px a side only, and this one has a side of {smallest} px"
        )
    found, problems = collected.model()
    if found is None:
        raise DataError(problems[0])
    return found.fields[field]


def _smallest_px(images: Sequence[Image]) -> int:
    """The shortest side of all images."""
    return min((min(image.shape[:2]) for image in images), default=0)


def _constant_share(image: Image) -> float:
    """Share of the pixels that equal the next one exactly, which noise does by chance only in coarse integers."""
    return float(np.mean(image[:, 1:] == image[:, :-1]))


def second_of(field: str) -> str:
    """The field that holds a second copy of a field's images."""
    return f"{field}_second"


def _stored(images_NCHW: Tensor, scale_N111: Tensor, spec: FieldSpec) -> list[Image]:
    """The images of a batch in stored units, (H, W) or (H, W, C); complex where they have two parts."""
    stored: list[Image] = []
    for image, scale in zip(images_NCHW.cpu(), scale_N111.flatten().tolist(), strict=True):
        values = torch.complex(image[0], image[1])[None] if spec.layout == "ri" else image
        array = np.moveaxis(values.numpy() * scale, 0, -1)
        stored.append(array[..., 0] if array.shape[-1] == 1 else array)
    return stored
