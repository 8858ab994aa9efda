"""Clean grey or colour images with Gaussian noise added: the classical denoising experiment, clean kept beside.

  python -m shards.build awgn --train gray_clean/train400 --test gray_clean/Set12 --sigma 25 --output DIR

Images are stored as float32 in [0, 1]; the noise is not clipped.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs.support.arguments import real_number
from shards.building import assemble, images, splits
from shards.building.assemble import Item
from shards.reading.recipe import INTEGER_MAX, stream_number
from shards.reading.transforms import generator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build awgn`."""
    parser.add_argument("--train", required=True, help="folder of clean images; divided by --split")
    parser.add_argument("--test", help="folder of clean images that are all for testing")
    parser.add_argument("--sigma", type=real_number(least=0), default=25.0, help="noise, of 255 (default 25)")
    parser.add_argument("--second", action="store_true", help="also store another noisy copy: noisy_other")
    parser.add_argument("--colour", action="store_true", help="keep colour; otherwise images become luminance")
    parser.add_argument("--licence", default="not stated", help="licence note for the shards")
    splits.add_argument(parser, "95,5,0")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    items = _items(args, Path(args.train), "")
    home = splits.assign([item.group for item in items], args)
    chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    if args.test:
        chosen["test"] = [*chosen["test"], *_items(args, Path(args.test), "test-")]
    meta = {
        "source": "awgn",
        "data_range": 1.0,
        "sigma": args.sigma / 255,
        "seed": args.seed,
        "noise": "gaussian, added, not clipped",
        "licence": args.licence,
        "second": args.second,
    }
    return assemble.write(args, "awgn", chosen, meta)


def _items(args: argparse.Namespace, folder: Path, prefix: str) -> list[Item]:
    found = images.by_key(images.files(folder))
    return [
        Item(prefix + key, prefix + key, partial(_load, prefix + key, path, args), (path,))
        for key, path in found.items()
    ]


def _load(key: str, path: Path, args: argparse.Namespace) -> list[assemble.Sample]:
    stored = images.read(path, grey=not args.colour)
    clean = (stored / INTEGER_MAX.get(stored.dtype.name, 1.0)).astype(np.float32)
    parts = {"clean": clean, "noisy": _noisy(clean, key, 0, args)}
    if args.second:
        parts["noisy_other"] = _noisy(clean, key, 1, args)
    return assemble.one(key, parts, sigma=args.sigma / 255)


def _noisy(clean: np.ndarray, key: str, copy: int, args: argparse.Namespace) -> np.ndarray:
    random = generator(args.seed, copy, 0, stream_number(key))
    return clean + random.standard_normal(clean.shape, dtype=np.float32) * np.float32(args.sigma / 255)
