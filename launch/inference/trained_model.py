"""A trained pipeline from a run folder, ready to restore."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from configs import registry
from configs.errors import CheckpointError, DataError
from configs.schema import RunConfig
from launch.checkpoints import store
from launch.data import fields, splits
from launch.data.fields import ImageKind
from launch.machine import memory_layout
from launch.runs.folder import RunFolder
from pipelines.base import Pipeline
from shards.reading.shard_set import ShardSet


@dataclass(frozen=True)
class Trained:
    """A run's pipeline with the weights of one checkpoint (averaged ones where they were kept), in evaluation mode."""

    pipeline: Pipeline
    config: RunConfig
    checkpoint: Path
    images: dict[str, ImageKind]
    """What it was trained on, by field."""


def load(
    run: Path, shards: ShardSet | None = None, *, which: str = "best", device: torch.device | None = None
) -> Trained:
    """The pipeline trained in a run folder, for images of the kind it was trained on.

    `shards`: what it is to restore; DataError where they hold images of another kind. `which` is best, last, or the run
    may itself be a checkpoint folder. Raises CheckpointError when the weights are not of the configuration's method.
    """
    config = folder_of(run).config()
    path = store.choose(run, which)
    meta = store.read_meta(path)
    images = trained_on(config, path, meta, shards)
    specs = fields.specs_of(images, config.data.representation)
    method: Any = registry.find("pipelines", config.pipeline.name)
    if shards is not None:
        here = fields.field_specs(method.needs(config.pipeline), config.data, shards)
        for name in here:
            if name in specs and specs[name] != here[name]:
                raise DataError(
                    f"{shards.path}: field {name} has other images than the {images[name].words} ones that "
                    f"{path} was trained on; give shards like those it was trained on"
                )
        specs = here
    pipeline = method(config.pipeline, specs)
    weights = pipeline.migrate_state(store.read_weights(path, averaged=True))
    store.fit(weights, pipeline.checkpoint_state(), path)
    pipeline.load_checkpoint_state(weights)
    pipeline.on_step_start(meta["step"], meta["epoch"])
    memory_layout.place(pipeline, device or torch.device("cpu"), config.loop)
    return Trained(pipeline.eval(), config, path, images)


def trained_on(config: RunConfig, path: Path, meta: dict[str, Any], shards: ShardSet | None) -> dict[str, ImageKind]:
    """The kind of images of every field that a checkpoint was trained on.

    Checkpoints of older versions do not say it: then it is what `shards` hold, or without them the run's own training
    shards. Raises CheckpointError when those are gone.
    """
    if "images" in meta:
        return {name: ImageKind(**kind) for name, kind in meta["images"].items()}
    method: Any = registry.find("pipelines", config.pipeline.name)
    try:
        known = shards or splits.open_split(config.data, config.data.train_split)
        return fields.image_kinds(method.needs(config.pipeline), config.data, known)
    except DataError as error:
        raise CheckpointError(
            f"{path} was written before checkpoints said what images they were trained on, and the "
            f"shards that say it are gone ({error}); train the run again"
        ) from error


def folder_of(run: Path) -> RunFolder:
    """The run folder that a run folder or one of its checkpoint folders means."""
    return RunFolder(run.parent.parent if (run / "meta.json").is_file() else run)
