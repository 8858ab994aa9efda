"""A trained pipeline from a run folder, ready to restore."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs.schema import RunConfig
from launch import checkpoint, session
from launch.run_folder import RunFolder
from pipelines.base import Pipeline
from shards.dataset import ShardSet


@dataclass(frozen=True)
class Trained:
    """A run's pipeline with the weights of one checkpoint (averaged ones where they were kept), in evaluation mode."""

    pipeline: Pipeline
    config: RunConfig
    checkpoint: Path
    meta: dict[str, Any]


def load(run: Path, shards: ShardSet, *, which: str = "best", device: torch.device | None = None) -> Trained:
    """The pipeline trained in a run folder, built for the kind of images these shards hold.

    `which` is best, last, or the run may itself be a checkpoint folder. Raises CheckpointError when the weights are of
    another model than these images need.
    """
    config = folder_of(run).config()
    path = checkpoint.choose(run, which)
    meta = checkpoint.read_meta(path)
    pipeline = session.make_pipeline(config, shards)
    weights = checkpoint.read_weights(path, averaged=True)
    checkpoint.fit(weights, pipeline.learned(), path)
    pipeline.load_learned(weights)
    pipeline.at(meta["step"], meta["epoch"])
    return Trained(pipeline.to(device or torch.device("cpu")).eval(), config, path, meta)


def folder_of(run: Path) -> RunFolder:
    """The run folder that a run folder or one of its checkpoint folders means."""
    return RunFolder(run.parent.parent if (run / "meta.json").is_file() else run)
