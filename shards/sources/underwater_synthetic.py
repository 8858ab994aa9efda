"""Build shards of clean photographs degraded as if seen through water, for tests and for training.

Reads colour photographs (8 bit) from --input; without it, random colourful scenes are generated.

Each colour channel follows I = J exp(-beta d) + B (1 - exp(-beta d)) (Schechner and Karpel, CVPR 2004), with a smooth
random depth d, an attenuation beta that is largest for red, and the water's colour B, plus camera noise.

Writes `noisy` and `clean`, colour, uint8. Every photograph or scene is a group.

  python -m shards.build underwater_synthetic --scenes 60 --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support.arguments import real_number, whole_number
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import by_key, list_images, read_image
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_licence_argument
from quell.shards.building.resizing import Resizing, resize_notes
from quell.shards.reading.pixels.transforms import generator
from quell.shards.reading.recipe import stream_number
from quell.shards.sources.common.generated import LICENCE
from quell.shards.sources.common.smooth_fields import smooth_fields

SCENES = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build underwater_synthetic`."""
    parser.add_argument("--input", help="folder of clean colour photographs (default: generate scenes)")
    parser.add_argument("--scenes", type=whole_number(1), default=SCENES, help=f"generated scenes (default {SCENES})")
    parser.add_argument(
        "--size", type=whole_number(16), default=256, help="height and width of generated scenes (default 256)"
    )
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=2.0,
        help="standard deviation of the camera noise on the 8-bit scale (default 2)",
    )
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    if args.input:
        photographs = by_key(list_images(Path(args.input)))
        items = [
            WorkItem(key, key, partial(_load_photograph, key, path, args), (path,)) for key, path in photographs.items()
        ]
    else:
        keys = [f"scene-{number:05d}" for number in range(args.scenes)]
        items = [WorkItem(key, key, partial(_generate, key, args)) for key in keys]
    meta = {
        "source": "underwater_synthetic",
        "data_range": 1.0,
        "seed": args.seed,
        "sigma": args.sigma / 255,
        "licence": args.licence if args.input else LICENCE,
        **(resize_notes(args) if args.input else {}),
    }
    return build_splits(args, "underwater", splits.divide(items, args), meta)


def through_water(random: np.random.Generator, clean_HWC: np.ndarray, sigma: float) -> np.ndarray:
    """Simulate a photograph of a scene under water.

    Args:
        random: Source of the depth, the water and the noise.
        clean_HWC: The scene (H, W, 3) in [0, 1].
        sigma: Standard deviation of the camera noise.

    Returns:
        The photograph, clipped to [0, 1].
    """
    side = max(clean_HWC.shape[:2])
    depth = smooth_fields(random, side, 1)[0][: clean_HWC.shape[0], : clean_HWC.shape[1]]
    depth = random.uniform(0.6, 1.6) + 0.35 * np.clip(depth, -1.5, 2)
    beta = np.array([random.uniform(0.8, 1.6), random.uniform(0.25, 0.6), random.uniform(0.15, 0.6)])
    water = np.array([random.uniform(0.02, 0.15), random.uniform(0.3, 0.6), random.uniform(0.35, 0.7)])
    transmission = np.exp(-beta * np.clip(depth, 0.1, None)[..., None])
    image = clean_HWC * transmission + water * (1 - transmission) + sigma * random.standard_normal(clean_HWC.shape)
    return np.clip(image, 0, 1)


def scene(random: np.random.Generator, size: int) -> np.ndarray:
    """Generate a colourful scene (size, size, 3) in [0, 1]: discs and bars in front of a smooth background."""
    fields = smooth_fields(random, size, 3)
    image = np.clip(0.5 + 0.2 * fields, 0, 1).transpose(1, 2, 0)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(random.integers(8, 20)):
        centre, radius, colour = random.random(2), random.uniform(0.03, 0.16), random.random(3)
        if random.random() < 0.5:
            inside = np.hypot(x - centre[0], y - centre[1]) < radius
        else:
            angle = random.uniform(0, np.pi)
            across = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
            along = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
            inside = (np.abs(across) < radius / 4) & (np.abs(along) < radius * 2)
        image[inside] = 0.8 * colour + 0.2 * image[inside]
    return image


def _load_photograph(key: str, path: Path, args: argparse.Namespace) -> list[Sample]:
    clean = read_image(path)
    if clean.ndim != 3 or clean.dtype != np.uint8:
        raise DataError(f"{path}: expected an 8-bit colour photograph, got {clean.dtype} {clean.shape}")
    resizing = Resizing.of(args)
    if resizing is not None:  # before the noise is added, whose level would change
        clean = resizing.resize(clean, str(path))
    return _degrade(key, clean / 255.0, args)


def _generate(key: str, args: argparse.Namespace) -> list[Sample]:
    return _degrade(key, scene(generator(args.seed, 0, 0, stream_number(key)), args.size), args)


def _degrade(key: str, clean: np.ndarray, args: argparse.Namespace) -> list[Sample]:
    noisy = through_water(generator(args.seed, 1, 0, stream_number(key)), clean, args.sigma / 255)
    fields = {name: np.rint(image * 255).astype(np.uint8) for name, image in (("noisy", noisy), ("clean", clean))}
    return [Sample.of_arrays(key, fields)]
