"""Whether a file restores as `quell denoise` does, on real images of several sizes."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

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
            f"compared with quell denoise on {record['images']} images of {len(self.sizes)} sizes: differs by at most "
            f"{self.worst.max_error:.2g}, {self.worst.relative_error:.2g} of the range; {difference}"
        )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the images."""
        return sorted({each.size for each in self.comparisons})

    def to_json(self) -> dict[str, object]:
        """For the manifest."""
        differences = [c.psnr_difference_db for c in self.comparisons if c.psnr_difference_db is not None]
        return {
            "reference": "quell denoise --tile 0, on the CPU",
            "images": len({each.image for each in self.comparisons}),
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
        samples: Real images; the first is also cropped and extended to odd sizes.
    """
    comparisons = [
        comparison for sample in _of_several_sizes(samples) for comparison in _compared(run, program, restorer, sample)
    ]
    large = samples[0].resized(LARGE_PX)
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


def inputs_of(program: RestorationProgram, sample: Sample) -> list[np.ndarray]:
    """What a program takes of a sample; levels are left to the run."""
    images = [to_tensor(port, sample.images[port.name]) for port in program.inputs]
    return [*images, *(np.zeros(1, np.float32) for _ in program.levels)]


def _of_several_sizes(samples: list[Sample]) -> Iterator[Sample]:
    yield from samples
    yield from (samples[0].resized(size) for size in (SMALL_PX, SQUARE_PX, LARGE_PX))


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


def _error(restored: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The largest absolute difference, and the same over the range of the reference; infinite unless all are finite."""
    absolute = float(np.abs(restored - reference).max())
    if not math.isfinite(absolute):
        return math.inf, math.inf
    span = float(np.ptp(_real(reference)))
    return absolute, absolute / span if span > 0 else absolute


def _real(image: np.ndarray) -> np.ndarray:
    return np.abs(image) if np.iscomplexobj(image) else image
