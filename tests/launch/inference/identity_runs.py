"""Run folders whose network returns its input, so that what a command does to files besides restoring them shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from quell.configs import loader
from quell.launch.training import run
from quell.shards.building.writer import write_split
from tests.support.checkpoints import forget_checksums

ToStored = Callable[[np.ndarray], np.ndarray]


def identity_run(
    folder: Path,
    shape: tuple[int, ...] = (24, 24),
    to_stored: ToStored = lambda image: (255 * image).astype(np.uint8),
    *,
    normalise: str = "none",
    **notes: Any,
) -> Path:
    """Train a supervised residual network for one step, and set its weights to zero.

    Args:
        folder: Where shards and run go.
        shape: Of the training images, (H, W) or (H, W, C).
        to_stored: Random numbers in [0, 1] -> a training image.
        normalise: `data.normalise`.
        notes: The builder's notes on the shards.

    Returns:
        The run folder.
    """
    rng = np.random.default_rng(5)
    samples = [
        {"__key__": f"s{i}", **{f"{name}.npy": to_stored(rng.random(shape)) for name in ("noisy", "clean")}}
        for i in range(4)
    ]
    for split in ("train", "val"):
        write_split(folder / "data" / split, samples, name="tiny", meta={"data_range": 1.0, **notes})
    config = loader.structure(
        {
            "name": "identity",
            "pipeline": {"name": "supervised", "network": {"name": "dncnn", "depth": 3, "width": 4}},
            "data": {"root": str(folder / "data"), "crop": 16, "normalise": normalise, "batch_size": 2},
            "loop": {"max_steps": 1, "threads": 1},
            "tracking": {"tensorboard": False},
        }
    )
    assert run.train(config, folder / "run") == 0
    for weights in (folder / "run").glob("checkpoints/*/*.safetensors"):
        forget_checksums(weights.parent)
        save_file({name: np.zeros_like(value) for name, value in load_file(weights).items()}, weights)
    return folder / "run"
