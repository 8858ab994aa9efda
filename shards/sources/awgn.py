"""Build shards of clean images with additive white Gaussian noise, the classical denoising benchmark.

Reads clean images (png, jpg, tif, bmp, webp, npy), grey or colour, from --train and --test. Integer images are scaled
to [0, 1]; colour becomes luminance unless --colour is given. --train is divided by --split; all of --test is in test.

Writes `noisy` and `clean`, float32; `clean` in [0, 1], `noisy` not clipped. With --second also `noisy_other`, the same
image with independent noise. The noise of an image depends on its name and --seed only.

  python -m shards.build awgn --train gray_clean/train400 --test gray_clean/Set12 --sigma 25 --output DIR
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from quell.configs.support.arguments import real_number
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import by_key, list_images, read_image
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import add_licence_argument
from quell.shards.building.resizing import Resizing, resize_notes
from quell.shards.reading.pixels.transforms import generator
from quell.shards.reading.recipe import INTEGER_MAX, stream_number
from quell.shards.sources.common.gaussian_noise import gaussian_noise


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build awgn`."""
    parser.add_argument("--train", required=True, help="folder of clean images, which --split divides")
    parser.add_argument("--test", help="folder of clean images that are all used for testing")
    parser.add_argument(
        "--sigma",
        type=real_number(least=0),
        default=25.0,
        help="standard deviation of the noise on the 8-bit scale, where white is 255 (default 25)",
    )
    parser.add_argument(
        "--second", action="store_true", help="also store a copy with independent noise, as noisy_other"
    )
    parser.add_argument("--colour", action="store_true", help="keep colour instead of converting to luminance")
    add_licence_argument(parser)
    splits.add_split_arguments(parser, "95,5,0")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    items = splits.divide(_items(args, Path(args.train), ""), args)
    if args.test:
        items["test"] += _items(args, Path(args.test), "test-")
    meta = {
        "source": "awgn",
        "data_range": 1.0,
        "sigma": args.sigma / 255,
        "seed": args.seed,
        "noise": "gaussian, added, not clipped",
        "licence": args.licence,
        "second": args.second,
        **resize_notes(args),
    }
    return build_splits(args, "awgn", items, meta)


def _items(args: argparse.Namespace, folder: Path, prefix: str) -> list[WorkItem]:
    return [
        WorkItem(prefix + key, prefix + key, partial(_load, prefix + key, path, args), (path,))
        for key, path in by_key(list_images(folder)).items()
    ]


def _load(key: str, path: Path, args: argparse.Namespace) -> list[Sample]:
    stored = read_image(path, grey=not args.colour)
    clean = (stored / INTEGER_MAX.get(stored.dtype.name, 1.0)).astype(np.float32)
    resizing = Resizing.of(args)
    if resizing is not None:  # before the noise is added, whose level would change
        clean = resizing.resize(clean, str(path))
    fields = {"clean": clean}
    for copy, name in enumerate(("noisy", "noisy_other") if args.second else ("noisy",)):
        random = generator(args.seed, copy, 0, stream_number(key))
        fields[name] = clean + gaussian_noise(random, clean.shape, args.sigma / 255)
    return [Sample.of_arrays(key, fields, sigma=args.sigma / 255)]
