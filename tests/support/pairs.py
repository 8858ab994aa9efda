"""Small shards of noisy and clean images, for trainings of a few steps."""

from pathlib import Path

import numpy as np

from quell.shards.building.writer import write_split

SIGMA = 0.1


def write_pairs(root: Path, *, cells: tuple[int, int], cell_px: int) -> Path:
    """Write six `train` and two `val` pairs of `noisy` and `clean` images, and return the root.

    Images are float32 and consist of cells of constant brightness in [0, 1], `cells` of them, `cell_px` wide.
    """
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        clean = random.random((count, *cells)).repeat(cell_px, axis=1).repeat(cell_px, axis=2).astype(np.float32)
        noisy = clean + SIGMA * random.standard_normal(clean.shape).astype(np.float32)
        samples = [{"__key__": f"s{i}", "noisy.npy": noisy[i], "clean.npy": clean[i]} for i in range(count)]
        write_split(root / split, samples, name="pairs", meta={"data_range": 1.0})
    return root
