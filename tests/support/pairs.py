"""Small shards of noisy and clean images, for runs of a few steps."""

from pathlib import Path

import numpy as np

from shards.building.writer import write_split

SIGMA = 0.1


def write_pairs(root: Path, *, cells: tuple[int, int], cell_px: int) -> Path:
    """Six `train` and two `val` images of flat cells in [0, 1], `noisy` and `clean`, float32; the root."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        clean = random.random((count, *cells)).repeat(cell_px, axis=1).repeat(cell_px, axis=2).astype(np.float32)
        noisy = clean + SIGMA * random.standard_normal(clean.shape).astype(np.float32)
        samples = [{"__key__": f"s{i}", "noisy.npy": noisy[i], "clean.npy": clean[i]} for i in range(count)]
        write_split(root / split, samples, name="pairs", meta={"data_range": 1.0})
    return root
