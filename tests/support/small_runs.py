"""Small paired shards and a small configuration, on which a training step takes milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from quell.configs.schema import RunConfig
from quell.shards.building.writer import write_split

SMALL_CONFIG = "tests/launch/small.yaml"
"""A dual-domain run with steps of milliseconds."""

SIZE_PX, SIGMA = 24, 0.1

SmallRun = Callable[..., RunConfig]
"""Type of the fixture `small_run`."""

TrainSmall = Callable[..., tuple[int, str]]
"""Type of the fixture `train_small`."""

Sample = dict[str, Any]
"""What `write_split` takes: "__key__", and the content of each member by its file name."""


def write_mini(root: Path) -> Path:
    """Write 26 train, 5 val and 3 test pairs of complex PD and PDFS images, noisy and clean; return the root."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 26), ("val", 5), ("test", 3)):
        samples = [pd_pdfs_sample(rng, f"{split}{i:03d}") for i in range(count)]
        write_split(root / split, samples, name="mini", meta={"data_range": 1.0})
    return root


def pd_pdfs_sample(rng: np.random.Generator, key: str) -> Sample:
    """Two contrasts of one smooth random field, monotone in it, with a constant phase and complex noise."""
    field = gaussian_filter(rng.normal(size=(SIZE_PX, SIZE_PX)), 3)
    field = (field - field.min()) / np.ptp(field)
    clean = {"pd": (0.2 + 0.8 * field) * np.exp(0.3j), "pdfs": (1 - 0.8 * field**2) * np.exp(0.3j)}
    noise = {name: SIGMA * (rng.normal(size=field.shape) + 1j * rng.normal(size=field.shape)) for name in clean}
    arrays = {f"{name}.npy": (clean[name] + noise[name]).astype(np.complex64) for name in clean}
    arrays |= {f"{name}_clean.npy": clean[name].astype(np.complex64) for name in clean}
    return {"__key__": key, **arrays, "json": {"case": key}}


def single_error(output: str) -> str:
    """The only line of an output that starts with "error: "; fails on a traceback, or if there are more or none."""
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, output
    return lines[0]
