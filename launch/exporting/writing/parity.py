"""Whether a file restores as `quell denoise` does, on real images of several sizes, in a stack, with a level given."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from quell.configs.errors import QuellError
from quell.launch.exporting.formats.runner import Run
from quell.launch.exporting.program.restoration import Port, RestorationProgram
from quell.launch.exporting.writing.samples import Sample
from quell.launch.inference.restorer import Restorer, Tiles
from quell.losses.metrics.psnr import psnr

TOLERANCE = 1e-3
"""Largest difference that is accepted, as a share of the range of the restored image."""
SMALL_PX, SQUARE_PX, LARGE_PX = (39, 53), (64, 64), (289, 315)
"""Height and width to which the first image is cropped or extended: odd, smaller than a tile and larger; and a square
of a power of two, which no padding changes."""


@dataclass(frozen=True)
class Comparison:
    """One restored image of a file beside that of `quell denoise`."""

    image: str
    """Key or file, and what was made of it."""
    output: str
    size: tuple[int, int]
    max_error: float
    """Largest absolute difference, in stored units; infinite where one of the images is not finite everywhere, so that
    the largest of several comparisons is never hidden by a NaN."""
    relative_error: float
    """The same over the range of the restored image."""
    psnr_difference_db: float | None
    """PSNR to the clean image less that of `quell denoise`; None where there is no clean image."""
    kind: Literal["image", "size", "stack", "level"] = "image"
    """What was compared: an image as it is; the first one in another size, above its mirror image in a stack, or with
    twice its noise level as an input, for which the reference is the method itself."""


@dataclass(frozen=True)
class Parity:
    """All comparisons of a file."""

    comparisons: list[Comparison]
    tiles_error: float
    """Largest difference, over the range, between restoring the large image at once, as the file does, and in the tiles
    that `quell denoise` takes by default."""

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest error."""
        return max(self.comparisons, key=lambda each: each.relative_error)

    def sentence(self) -> str:
        """The comparison for people."""
        record = self.to_json()
        psnr_part = record["max_psnr_difference_db"]
        difference = "no clean images" if psnr_part is None else f"PSNR by {psnr_part:.2g} dB"
        return (
            f"compared with quell denoise on {self.compared_on()}: differs by at most "
            f"{self.worst.max_error:.2g}, {self.worst.relative_error:.2g} of the range; {difference}"
        )

    def compared_on(self) -> str:
        """The images in words."""
        count, has_levels = self._count("image"), self._count("level") > 0
        images = "1 image, which was" if count == 1 else f"{count} images, the first of them"
        level = ", in a stack and with twice its noise level" if has_levels else " and in a stack"
        return f"{images} also in {self._count('size')} other sizes{level}"

    def _count(self, kind: str) -> int:
        """Images of a kind, whatever the number of outputs."""
        return len({each.image for each in self.comparisons if each.kind == kind})

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the images."""
        return sorted({each.size for each in self.comparisons})

    def to_json(self) -> dict[str, object]:
        """For the manifest."""
        differences = [c.psnr_difference_db for c in self.comparisons if c.psnr_difference_db is not None]
        return {
            "reference": "quell denoise --tile 0, on the CPU",
            "images": self._count("image"),
            "compared_on": self.compared_on(),
            "sizes": self.sizes,
            "max_error": self.worst.max_error,
            "max_relative_error": self.worst.relative_error,
            "max_psnr_difference_db": max(map(abs, differences), default=None),
            "relative_error_of_default_tiles": self.tiles_error,
            "comparisons": [asdict(each) for each in self.comparisons],
        }


def measure(run: Run, program: RestorationProgram, restorer: Restorer, samples: list[Sample]) -> Parity:
    """Compare a file with the run that it was made from.

    Args:
        run: The file.
        program: What was written to it.
        restorer: The run, restoring full images.
        samples: Real images; the first is also cropped and extended to odd sizes, given as a stack, and with a level.
    """
    first = samples[0]
    resized = [first.resized(size) for size in (SMALL_PX, SQUARE_PX, LARGE_PX)]
    comparisons = [each for sample in samples for each in _compared(run, program, restorer, sample)]
    comparisons += [
        replace(each, kind="size") for sample in resized for each in _compared(run, program, restorer, sample)
    ]
    comparisons += [*_in_a_stack(run, program, restorer, first), *_with_levels(run, program, first)]
    large = resized[-1]
    open_again = partial(
        Restorer, restorer.model.checkpoint, device=torch.device("cpu"), trust_code=restorer.trust_code
    )
    whole, in_tiles = (open_again(tiles=tiles).restore(large.images, large.key) for tiles in (Tiles(0), Tiles()))
    tiles_error = max(_error(in_tiles[name], whole[name])[1] for name in whole)
    return Parity(comparisons, tiles_error)


def refuse_difference(parity: Parity, source: str, tolerance: float) -> None:
    """Raise QuellError where a file restores otherwise than its run."""
    worst = parity.worst
    if math.isfinite(worst.relative_error) and worst.relative_error <= tolerance:
        return
    difference = f"{worst.max_error:.3g}, {worst.relative_error:.2g} of its range"
    if not math.isfinite(worst.relative_error):
        difference = "values that are not finite (NaN or infinity)"
    raise QuellError(
        f"{source}: what was exported restores {worst.image} ({worst.size[0]} x {worst.size[1]} px) otherwise than "
        f"quell denoise: '{worst.output}' differs by {difference}, and --tolerance allows {tolerance:.2g}; no file was "
        "written: choose another --format"
    )


def to_tensor(port: Port, image: np.ndarray) -> np.ndarray:
    """An image (H, W) or (H, W, C) in stored units as a program takes it, float32 (1, C, H, W)."""
    if port.layout == "ri":
        return np.stack([image.real, image.imag])[None].astype(np.float32)
    magnitude = np.abs(image) if np.iscomplexobj(image) else image
    return np.ascontiguousarray(np.moveaxis(magnitude.reshape(*image.shape[:2], -1), -1, 0)[None], dtype=np.float32)


def to_image(port: Port, tensor: np.ndarray) -> np.ndarray:
    """The reverse of `to_tensor`, of the first image."""
    image = tensor[0]
    if port.layout == "ri":
        return np.asarray(image[0] + 1j * image[1])
    return np.asarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))


def inputs_of(program: RestorationProgram, *samples: Sample) -> list[np.ndarray]:
    """What a program takes of samples, as a stack; levels are left to the run."""
    images = [
        np.concatenate([to_tensor(port, sample.images[port.name]) for sample in samples]) for port in program.inputs
    ]
    return [*images, *(np.zeros(1, np.float32) for _ in program.levels)]


def _compared(run: Run, program: RestorationProgram, restorer: Restorer, sample: Sample) -> Iterable[Comparison]:
    expected = restorer.restore(sample.images, sample.key)
    for port, tensor in zip(program.outputs, run(inputs_of(program, sample)), strict=True):
        restored, reference = to_image(port, tensor), expected[port.name]
        absolute, relative = _error(restored, reference)
        clean, difference = sample.clean.get(port.name), None
        if clean is not None and sample.data_range:
            values = [psnr(_real(image), _real(clean), data_range=sample.data_range) for image in (restored, reference)]
            difference = values[0] - values[1] if values[0] != values[1] else 0.0  # both may be infinite
        yield Comparison(sample.key, port.name, (restored.shape[0], restored.shape[1]), absolute, relative, difference)


def _in_a_stack(run: Run, program: RestorationProgram, restorer: Restorer, sample: Sample) -> Iterable[Comparison]:
    """A sample and its mirror image, restored together."""
    pair = [sample, replace(sample, images={name: image[::-1].copy() for name, image in sample.images.items()})]
    expected = restorer.restore(
        {name: np.stack([each.images[name] for each in pair]) for name in sample.images}, sample.key
    )
    for port, tensor in zip(program.outputs, run(inputs_of(program, *pair)), strict=True):
        for number in range(len(pair)):
            name = f"{sample.key}, image {number + 1} in a stack of {len(pair)}"
            restored = to_image(port, tensor[number : number + 1])
            yield _comparison(name, port, restored, expected[port.name][number], "stack")


def _with_levels(run: Run, program: RestorationProgram, sample: Sample) -> Iterable[Comparison]:
    """A sample with twice the noise that the run assumes; where it estimates that, twice a tenth of the contrast."""
    told = program.pipeline.noise_inputs()
    if not program.levels or told is None:
        return
    assumed = told.model().fields
    levels = [assumed[field].sigma or float(np.std(sample.images[field])) / 10 for field in told.fields]
    images = inputs_of(program, sample)[: len(program.inputs)]
    values = [*images, *(np.full(1, 2 * level, np.float32) for level in levels)]
    with torch.inference_mode():
        expected = program(*map(torch.from_numpy, values))
    for port, tensor, reference in zip(program.outputs, run(values), expected, strict=True):
        name = f"{sample.key} with twice the noise level"
        yield _comparison(name, port, to_image(port, tensor), to_image(port, reference.numpy()), "level")


def _comparison(
    name: str, port: Port, restored: np.ndarray, reference: np.ndarray, kind: Literal["stack", "level"]
) -> Comparison:
    return Comparison(name, port.name, (restored.shape[0], restored.shape[1]), *_error(restored, reference), None, kind)


def _error(restored: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The largest absolute difference, and the same over the range of the reference; infinite unless all are finite."""
    absolute = float(np.abs(restored - reference).max())
    if not math.isfinite(absolute):
        return math.inf, math.inf
    span = float(np.ptp(_real(reference)))
    return absolute, absolute / span if span > 0 else absolute


def _real(image: np.ndarray) -> np.ndarray:
    return np.abs(image) if np.iscomplexobj(image) else image
