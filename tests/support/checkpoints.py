"""Checkpoints of a few bytes, written as a run writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from quell.configs.support.json_files import read_json
from quell.launch.checkpoints import best, store


def write(hidden: Path, step: int, *, ranks: int = 1) -> None:
    """Write the files of a checkpoint whose weights equal its step."""
    weights = {"net.weight": torch.full((2, 2), float(step))}
    store.write_weights(hidden, weights, {"net.weight": weights["net.weight"] / 2})
    store.write_state(hidden, "state.pt", {"step": step, "pool": [torch.arange(3)]})
    for rank in range(ranks):
        store.write_state(hidden, f"rank-{rank}.pt", {"rank": rank, "step": step})


def save(folder: Path, step: int, *, line: Sequence[Any] = (), **metrics: float) -> Path:
    """Save a checkpoint with these metrics; its folder."""
    hidden = store.begin(folder, step)
    write(hidden, step)
    return store.publish(hidden, {"step": step, "world": 1, "metrics": metrics, "line": list(line)})


def forget_checksums(checkpoint: Path) -> None:
    """Make a checkpoint one of format 1, which versions up to 0.2 wrote, so that a test may change its files."""
    meta = read_json(checkpoint / "meta.json")
    kept = {name: value for name, value in meta.items() if name not in ("files", "checksum", "line", "data")}
    (checkpoint / "meta.json").write_text(json.dumps({**kept, "format": 1}))


def save_like_a_run(folder: Path, step: int, *, keep_last: int, **metrics: float) -> None:
    """Save a checkpoint, note the best one and remove old ones, in the order in which a run does."""
    path = save(folder, step, line=(), **metrics)
    best.write_best(folder, "psnr")
    store.retain(path, keep_last, "psnr")
