"""Small splits, written by the project's own writer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet


def make_samples(count: int, shape: tuple[int, int] = (20, 24), kind: str = "real") -> list[dict[str, Any]]:
    """Samples whose first two pixels are the numbers of sample and field."""
    random = np.random.default_rng(0)
    samples: list[dict[str, Any]] = []
    for number in range(count):
        sample: dict[str, Any] = {"__key__": f"s{number:04d}", "json": {"number": number}}
        for field_number, name in enumerate(("pd", "pdfs", "pd_clean")):
            image = random.random(shape).astype(np.float32) + 0.5
            image[0, 0], image[0, 1] = number, field_number
            if kind == "complex":
                image = (image + 1j * random.random(shape)).astype(np.complex64)
            if kind == "uint8":
                image = image.astype(np.uint8)
            sample[f"{name}.npy"] = image
        samples.append(sample)
    return samples


@pytest.fixture
def split(tmp_path: Path) -> Callable[..., ShardSet]:
    """A function that writes a split of several small shards and opens it."""

    def write(count: int = 11, shape: tuple[int, int] = (20, 24), kind: str = "real", name: str = "train") -> ShardSet:
        write_split(
            tmp_path / name, make_samples(count, shape, kind), name="demo", meta={"data_range": 1.0}, max_size_mb=0.015
        )
        return ShardSet.open(tmp_path / name)

    return write
