"""Shards of PD + PDFS pairs as large as real slices, for the benchmarks of reading and writing."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from quell.shards.building.writer import write_split
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet

NAMES = ("pd", "pdfs")
SIDE_PX = 320


def random_pairs(count: int) -> Iterator[dict[str, Any]]:
    """Samples of two float32 images of 320 x 320 pixels, as `write_split` takes them."""
    random = np.random.default_rng(0)
    for i in range(count):
        images = {f"{name}.npy": random.random((SIDE_PX, SIDE_PX), dtype=np.float32) for name in NAMES}
        yield {"__key__": f"k{i:05d}", **images}


def write_pairs(folder: Path, count: int) -> ShardSet:
    """Write a split of random pairs, and open it."""
    write_split(folder, random_pairs(count), name="pairs", meta={})
    return ShardSet.open(folder)


def repeat_in_index(source: Path, target: Path, samples: int) -> int:
    """Link the shards of a split into a new folder, under an index that repeats their samples.

    Opening a split of ten million samples so costs the space of its index only.

    Args:
        source: Folder of the split.
        target: The folder to create.
        samples: Number of samples in the new index; a multiple of the split's.

    Returns:
        Size of the new index in bytes.
    """
    target.mkdir()
    for shard in source.glob("*.tar"):
        os.link(shard, target / shard.name)
    header: index.IndexHeader = json.loads((source / index.HEADER).read_text())
    table = np.tile(np.load(source / index.TABLE), samples // header["samples"])
    for field in header["fields"].values():
        field["count"] = len(table)
    index.write_files(target, {**header, "samples": len(table)}, table)
    return int(table.nbytes)
