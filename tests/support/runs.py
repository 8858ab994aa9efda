"""Read what a run leaves in its folder."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from quell.configs.support.json_files import Record


def read_events(run_dir: Path, kind: str | None = None) -> list[Record]:
    """The lines of metrics.jsonl, or only the events of one kind ("start", "train", "eval", ...)."""
    events: list[Record] = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if kind in (None, event["event"])]


def read_summary(run_dir: Path) -> Record:
    """The content of summary.json."""
    summary: Record = json.loads((run_dir / "summary.json").read_text())
    return summary


def checkpoint_of(run_dir: Path, step: int) -> Path:
    """The folder of the checkpoint at a step."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def read_weights(run_dir: Path, step: int, name: str = "weights") -> dict[str, Tensor]:
    """The trained weights of a checkpoint, or their moving average (`name="ema"`)."""
    return load_file(checkpoint_of(run_dir, step) / f"{name}.safetensors")


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two state dicts have the same keys and equal values, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
