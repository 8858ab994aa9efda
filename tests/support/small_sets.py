"""Small splits of smooth, distinct pairs, and a bit flipped in one of their files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shards.building.writer import write_split


def images(seed: int, count: int = 8, **more: Any) -> list[dict[str, Any]]:
    """Smooth, distinct pairs with a group each."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        clean = np.kron(random.random((6, 6)), np.ones((8, 8))).astype(np.float32)
        noisy = clean + 0.1 * random.standard_normal(clean.shape).astype(np.float32)
        samples.append(
            {
                "__key__": f"{seed}-{number}",
                "noisy.npy": noisy,
                "clean.npy": clean,
                "json": {"group": f"{seed}-{number}", **more},
            }
        )
    return samples


def make_split(root: Path, change: Callable[[list[dict[str, Any]]], Any] | None = None, split: str = "train") -> None:
    samples = images(len(split))
    if change:
        change(samples)
    write_split(root / split, samples, name="v", meta={"data_range": 1.0, "sigma": 0.1}, max_size_mb=0.06)


def flip(path: Path, at: int, bit: int = 1) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= bit
    path.write_bytes(raw)
