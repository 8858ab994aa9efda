"""The trained pipeline of a run folder, ready to restore images."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from quell.configs.errors import CheckpointError, DataError, MachineError
from quell.configs.fields import FieldSpec
from quell.configs.schema import RunConfig
from quell.configs.support.json_files import Record
from quell.launch.checkpoints import store
from quell.launch.checkpoints.layout import is_checkpoint, is_shared
from quell.launch.data import fields, splits, training_levels
from quell.launch.data.fields import ImageKind
from quell.launch.data.training_levels import TrainingData
from quell.launch.machine import memory_layout, rng
from quell.launch.methods import method_of
from quell.launch.runs.folder import RunFolder
from quell.losses.common import frozen_vgg
from quell.pipelines.base import Pipeline
from quell.shards.reading.shard_set import ShardSet


@dataclass(frozen=True)
class TrainedModel:
    """A run's pipeline in evaluation mode, with the weights of one checkpoint."""

    pipeline: Pipeline
    """Holds the averaged weights (EMA) where the run kept them."""
    config: RunConfig
    checkpoint: Path
    """Folder that the weights were read from."""
    images: dict[str, ImageKind]
    """Field -> the kind of stored images it was trained on."""
    training_data: TrainingData | None
    """The level of the training images; None where an older version trained the run and its shards are gone."""


def load(
    run: Path,
    shards: ShardSet | None = None,
    *,
    which: str = "best",
    device: torch.device | None = None,
    losses: bool = False,
    trust_code: bool = False,
) -> TrainedModel:
    """Load the trained pipeline of a run.

    Args:
        run: Run folder, one checkpoint folder inside it, or the folder of a shared model.
        shards: What the pipeline is to restore; None takes images of the kind it was trained on.
        which: "best" (by the validation metric) or "last"; ignored where `run` is a checkpoint folder.
        device: Where to put the pipeline; default the CPU.
        losses: Whether its losses will be computed, so that a perceptual one needs its file of weights.
        trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

    Returns:
        The pipeline in evaluation mode, its configuration, and the kind of images it was trained on.

    Raises:
        CheckpointError: There is no usable checkpoint, or its weights do not belong to the configuration.
        ConfigError: A shared model would import code that was not trusted.
        DataError: The shards hold another kind of images than the run was trained on.
    """
    config = folder_of(run).config(trust_code=trust_code)
    checkpoint = store.choose(run, which)
    meta = store.read_meta(checkpoint)
    images = _training_images(config, checkpoint, meta, shards)
    specs = fields.specs_of_kinds(images, config.data.representation)
    method = _method(config)
    if shards is not None:
        specs = _matching_specs(shards, config, checkpoint, images, specs)
    with nullcontext() if losses else frozen_vgg.left_out(), rng.OwnDraws():
        pipeline = method(config.pipeline, specs)
    pipeline.draws = store.read_draws(checkpoint)
    weights = pipeline.migrate_state(store.read_weights(checkpoint, averaged=True))
    if not is_shared(run):
        store.warn_of_damage(checkpoint)
    store.check_fit(weights, pipeline.checkpoint_state(), checkpoint)
    pipeline.load_checkpoint_state(weights)
    pipeline.on_step_start(meta["step"], meta["epoch"])
    memory_layout.place(pipeline, device or torch.device("cpu"), config.loop)
    return TrainedModel(pipeline.eval(), config, checkpoint, images, _training_data(config, meta))


def folder_of(run: Path) -> RunFolder:
    """The run folder, given itself or one of its checkpoint folders; a shared model is its own."""
    return RunFolder(run.parent.parent if is_checkpoint(run) and not is_shared(run) else run)


def _method(config: RunConfig) -> type[Pipeline]:
    method = method_of(config)
    return method


def _matching_specs(
    shards: ShardSet, config: RunConfig, checkpoint: Path, images: dict[str, ImageKind], trained: dict[str, FieldSpec]
) -> dict[str, FieldSpec]:
    """The field specs of the shards; DataError where one differs from what the network was built for."""
    needs = _method(config).needs(config.pipeline)
    specs = fields.field_specs(needs, config.data, shards)
    for name, spec in specs.items():
        if name in trained and trained[name] != spec:
            kind = fields.image_kinds(needs, config.data, shards)[name]
            raise DataError(
                f"{shards.path}: field '{name}' holds {kind.words} images, but {checkpoint} was trained on "
                f"{images[name].words} images: choose shards like those it was trained on"
            )
    return specs


def _training_data(config: RunConfig, meta: Record) -> TrainingData | None:
    """What the checkpoint records of its training data; where it is older than that, what the shards say."""
    if "training_data" in meta:
        return TrainingData.from_json(meta["training_data"])
    try:
        shards = splits.open_split(config.data, config.data.train_split)
        return training_levels.measure(_method(config).needs(config.pipeline), config.data, shards)
    except (DataError, MachineError):
        return None


def _training_images(
    config: RunConfig, checkpoint: Path, meta: Record, shards: ShardSet | None
) -> dict[str, ImageKind]:
    """The kind of images that a checkpoint was trained on, by field.

    Checkpoints of older versions do not record it. For them it is what `shards` hold, or else the run's training
    shards; CheckpointError where those no longer exist.
    """
    if "images" in meta:
        return {name: ImageKind(**kind) for name, kind in meta["images"].items()}
    try:
        training_shards = shards or splits.open_split(config.data, config.data.train_split)
        return fields.image_kinds(_method(config).needs(config.pipeline), config.data, training_shards)
    except DataError as error:
        raise CheckpointError(
            f"{checkpoint} does not record what images it was trained on (an older version wrote it), and the run's "
            f"training shards cannot be opened ({error}): restore the shards, or train the run again"
        ) from error
