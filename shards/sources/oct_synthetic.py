"""Build shards of generated retinal OCT: random layers with speckle, several noisy frames of each eye, for tests.

Reads nothing. Fully developed speckle has a Rayleigh-distributed amplitude; frames are log-compressed, as scanners
display them. The clean image is the average of 64 frames.

Writes `clean` and `noisy`, with more --frames also `noisy_other`, `noisy_2`, ...; float32 in [0, 1]. Every eye is a
group.

  python -m shards.build oct_synthetic --frames 3 --output DIR
"""

import argparse

import numpy as np

from quell.configs.support.arguments import whole_number
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.items import Sample
from quell.shards.reading.pixels.transforms import generator
from quell.shards.sources.common.generated import LICENCE, add_count_arguments, generated_items
from quell.shards.sources.common.smooth_fields import smooth_fields

COUNTS = {"train": 48, "val": 8, "test": 8}
LAYERS = (0.55, 0.3, 0.5, 0.25, 0.45, 0.12, 0.35, 0.75, 0.95)
"""Reflectance (amplitude) of the retinal layers, from the vitreous down."""
THICKNESS = (0.035, 0.03, 0.04, 0.03, 0.03, 0.07, 0.02, 0.02, 0.03)
"""Mean thickness of each layer, as a share of the height of the image."""
DYNAMIC_RANGE_DB = 45.0
"""Range of the log-compressed image."""
AVERAGED_FRAMES = 64
"""Frames averaged for the clean image."""

STREAM_ANATOMY, STREAM_CLEAN, STREAM_NOISY = 1, 2, 3
"""Random streams of an eye; the noisy frames use STREAM_NOISY and the numbers above it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build oct_synthetic`."""
    parser.add_argument("--size", type=whole_number(16), default=256, help="height and width in pixels (default 256)")
    parser.add_argument(
        "--frames",
        type=whole_number(1),
        default=2,
        help="noisy frames of each eye: noisy, noisy_other, noisy_2, ... (default 2)",
    )
    add_count_arguments(parser, COUNTS, "eyes")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    meta = {
        "source": "oct_synthetic",
        "data_range": 1.0,
        "seed": args.seed,
        "noise": "Rayleigh speckle, log-compressed",
        "licence": LICENCE,
    }
    return build_splits(args, "oct", generated_items(args, COUNTS, _key, _load), meta)


def reflectance(random: np.random.Generator, size: int) -> np.ndarray:
    """Generate the amplitudes (size, size) of one eye.

    Curved layers of random thickness with a foveal pit, shadows of vessels, and decay with depth.
    """
    x = np.linspace(-1, 1, size)
    bend, thickness = smooth_fields(random, size, 2)
    top = (
        0.3
        + 0.08 * bend[0] * 0.5
        + random.uniform(-0.1, 0.15) * x**2
        + random.uniform(0.03, 0.1) * np.exp(-((x - random.uniform(-0.3, 0.3)) ** 2) / 0.03)
    )
    depth = np.linspace(0, 1, size)[:, None]
    steps = np.array(THICKNESS) * random.uniform(0.8, 1.2, len(THICKNESS))
    edges = top[None, :] + np.cumsum(steps)[:, None] * (1 + 0.1 * thickness[: len(THICKNESS)])
    amplitude = np.full((size, size), 0.02)
    upper = top[None, :]
    for level, lower in zip(LAYERS, edges, strict=True):
        inside = (depth >= upper) & (depth < lower)
        amplitude = np.where(inside, level * random.uniform(0.85, 1.15), amplitude)
        upper = lower[None, :]
    amplitude = np.where(depth >= upper, 0.4 * np.exp(-(depth - upper) * 6), amplitude)
    for _ in range(random.integers(0, 4)):  # vessels cast shadows on what is below them
        centre, width = random.uniform(-0.9, 0.9), random.uniform(0.01, 0.03)
        amplitude = np.where((np.abs(x - centre) < width) & (depth > top + 0.06), amplitude * 0.45, amplitude)
    return amplitude * (1 + 0.06 * smooth_fields(random, size, 1)[0])


def frame(random: np.random.Generator, amplitude: np.ndarray) -> np.ndarray:
    """Generate one frame with speckle, log-compressed to [0, 1], float32."""
    field = random.standard_normal((2, *amplitude.shape)) / np.sqrt(2)
    intensity = amplitude**2 * (field**2).sum(axis=0) + 1e-4 * random.exponential(size=amplitude.shape)
    return np.clip(1 + 10 * np.log10(intensity + 1e-12) / DYNAMIC_RANGE_DB, 0, 1).astype(np.float32)


def _key(number: int) -> str:
    return f"eye-{number:05d}"


def _load(args: argparse.Namespace, split_number: int, number: int) -> Sample:
    amplitude = reflectance(generator(args.seed, split_number, number, STREAM_ANATOMY), args.size)
    random = generator(args.seed, split_number, number, STREAM_CLEAN)
    frames = np.stack([frame(random, amplitude) for _ in range(AVERAGED_FRAMES)])
    fields: dict[str, np.ndarray] = {"clean": np.asarray(frames.mean(axis=0, dtype=np.float32))}
    for copy in range(args.frames):
        name = "noisy" if copy == 0 else "noisy_other" if copy == 1 else f"noisy_{copy}"
        fields[name] = frame(generator(args.seed, split_number, number, STREAM_NOISY + copy), amplitude)
    return Sample.of_arrays(_key(number), fields)
