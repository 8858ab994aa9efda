"""Single steps of a run, as the older program's diagnose.py printed them: what goes in, what comes out, gradients.

A run is continued from its last checkpoint for a few steps that are not saved, with its own optimizers, learning rates
and next batches.
"""

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from quell.configs.schema import RunConfig
from quell.configs.support.json_files import Record
from quell.launch.checkpoints import store
from quell.launch.inference import trained_model
from quell.launch.machine import acceleration
from quell.launch.runs.tracker import Tracker
from quell.launch.training import run
from quell.launch.training.phases import train_step
from quell.launch.training.trainer import Trainer, assemble
from quell.pipelines.base import Batch, Pipeline
from quell.pipelines.reporting.checks import CheckValue


@dataclass(frozen=True)
class FieldShape:
    """One field of the batch that was examined."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    magnitude: float
    """Mean magnitude, in the units that the networks see."""
    scale: float | None
    """What the images were divided by, mean over the batch; None where they were not."""


@dataclass(frozen=True)
class Steps:
    """The steps of a run that a diagnosis shows."""

    checkpoint: int
    """Step of the checkpoint that was examined."""
    fields: list[FieldShape]
    """What the next batch holds."""
    networks: dict[str, CheckValue]
    """The method's own description of what its networks make of that batch (Pipeline.describe_batch)."""
    further: list[Record]
    """What further steps from the checkpoint, which are not saved, would have logged."""

    def as_json(self) -> Record:
        """The content of the JSON file."""
        return asdict(self)


def examine_steps(folder: Path, count: int) -> Steps:
    """Continue a run by some steps, without writing anything.

    Args:
        folder: The run folder.
        count: Number of steps; 0 examines the next batch only.

    Raises:
        QuellError: The checkpoint, the data, or a setting does not fit this machine.
    """
    checkpoint = store.choose(folder, "last")
    at = int(store.read_meta(checkpoint)["step"])
    run_folder, taken = trained_model.folder_of(folder), max(count, 1)
    config = _continued(run_folder.config(), at + taken)
    accelerator = acceleration.make_accelerator(config.loop)
    try:
        tracker = Tracker(run_folder, active=False, tensorboard=False)
        trainer = assemble(config, accelerator, run_folder, tracker, checkpoint=checkpoint)
        run.restore_run(trainer, checkpoint)
        with trainer.batches() as batches:
            return _examine(trainer, list(itertools.islice(batches, taken)), count)
    finally:
        acceleration.close(accelerator)


def _continued(config: RunConfig, steps: int) -> RunConfig:
    """A run's configuration, longer, and not compiled: that would take longer than the steps."""
    return config.model_copy(
        update={
            "loop": config.loop.model_copy(update={"max_steps": steps, "epochs": None, "compile": False}),
            "tracking": config.tracking.model_copy(update={"gradients": True}),
        }
    )


def _examine(trainer: Trainer, global_batches: list[list[Batch]], count: int) -> Steps:
    state, pipeline = trainer.state, trainer.state.pipeline
    checkpoint = state.step
    finished = [[trainer.finish(batch) for batch in global_batch] for global_batch in global_batches]
    first = finished[0][0]
    with torch.no_grad():
        networks = pipeline.eval().describe_batch(first)
    pipeline.train()
    further = []
    for micro_batches in finished[:count]:
        pipeline.on_step_start(state.step, trainer.epoch)
        trainer.set_learning_rates()
        values = train_step(trainer.phases, pipeline, state.step, micro_batches, state.scaler)
        state.step += 1
        further.append({"step": state.step, **{name: float(value) for name, value in values.items()}})
    return Steps(checkpoint, _shapes(pipeline, first), networks, further)


def _shapes(pipeline: Pipeline, batch: Batch) -> list[FieldShape]:
    """The fields of a batch that the method was built for."""
    shapes = []
    for name in pipeline.fields:
        if name in batch:
            images, scale = batch[name], batch.get(f"{name}_scale")
            dtype = str(images.dtype).removeprefix("torch.")
            mean_scale = None if scale is None else float(scale.mean())
            shapes.append(FieldShape(name, tuple(images.shape), dtype, float(images.abs().mean()), mean_scale))
    return shapes
