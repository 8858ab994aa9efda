"""Build shards of the photographs that come with scikit-image, in grey, with additive white Gaussian noise.

Reads nothing that has to be downloaded. Only photographs whose authors gave them to the public domain, by CC0 or as
works of NASA and others, are taken, so that weights that were trained on them may be passed on: nine for training
(astronaut, brick, clock_motion, grass, gravel, hubble_deep_field, microaneurysms, retina, rocket), one for validation
(coffee), two for testing (camera, chelsea).

Writes `noisy` and `clean`, float32; `clean` in [0, 1], `noisy` not clipped. Colour becomes luminance. The noise of an
image depends on its name and --seed only.

  python -m shards.build photographs --sigma 25 --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import skimage

from quell.configs.support.arguments import real_number
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import read_image
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.resizing import Resizing, resize_notes
from quell.shards.reading.pixels.transforms import generator
from quell.shards.reading.recipe import INTEGER_MAX, stream_number
from quell.shards.sources.common.gaussian_noise import gaussian_noise

FOLDER = Path(skimage.__file__).parent / "data"
FILES = {
    "train": (
        "astronaut.png",
        "brick.png",
        "clock_motion.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "microaneurysms.png",
        "retina.jpg",
        "rocket.jpg",
    ),
    "val": ("coffee.png",),
    "test": ("camera.png", "chelsea.png"),
}
"""Split -> its photographs, with licences as skimage.data documents them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build photographs`."""
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=25.0,
        help="standard deviation of the noise on the 8-bit scale, where white is 255 (default 25)",
    )


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    items = {
        split: [WorkItem(file, file, partial(_load, FOLDER / file, args), (FOLDER / file,)) for file in files]
        for split, files in FILES.items()
    }
    meta = {
        "source": "photographs",
        "data_range": 1.0,
        "sigma": args.sigma / 255,
        "seed": args.seed,
        "noise": "gaussian, added, not clipped",
        "licence": "CC0 and public domain",
        **resize_notes(args),
    }
    return build_splits(args, "photographs", items, meta)


def _load(path: Path, args: argparse.Namespace) -> list[Sample]:
    stored = read_image(path, grey=True)
    clean = (stored / INTEGER_MAX.get(stored.dtype.name, 1.0)).astype(np.float32)
    if (resizing := Resizing.of(args)) is not None:  # before the noise is added, whose level would change
        clean = resizing.resize(clean, str(path))
    random = generator(args.seed, 0, 0, stream_number(path.stem))
    noisy = clean + gaussian_noise(random, clean.shape, args.sigma / 255)
    return [Sample.of_arrays(path.stem, {"noisy": noisy, "clean": clean}, sigma=args.sigma / 255)]
