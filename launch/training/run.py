"""From a configuration to a finished run folder."""

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from configs.errors import EXIT_REQUEUE, ConfigError, DivergedError, MachineError, QuellError
from configs.loader import dump
from configs.schema import RunConfig
from launch.checkpoints import resume, store
from launch.data import loading, splits
from launch.machine import acceleration, precision
from launch.runs.folder import RunFolder
from launch.runs.tracker import Tracker
from launch.training import loop
from launch.training.build import length, make_pipeline, make_plan
from launch.training.profiling import profiled
from launch.training.session import Session
from pipelines.base import Pipeline
from shards.reading.order import SampleOrder
from shards.reading.shard_set import ShardSet

TRIED = 2
"""Samples on which a dry run tries the losses; some layers need more than one."""

HEALTHY = {"finished": 0, loop.STOPPED: EXIT_REQUEUE}


def train(config: RunConfig, run_dir: Path, *, mode: str = "auto") -> int:
    """Train, measure, save; the exit code. `mode` is --resume's value; a finished run is left as it is.

    Whatever ends the run, the process group is closed and `summary.json` says how it ended.
    """
    accelerator = acceleration.make_accelerator(config.loop, complex_numbers=config.data.representation == "complex")
    folder, tracker, ours = RunFolder(run_dir), None, False
    first = accelerator.is_main_process
    with ExitStack() as running:  # alone in the folder, and listening to stop signals until everything is closed
        try:
            refuse_uneven(config, accelerator.num_processes)
            folder.create()
            claim(folder, accelerator, running)
            ours = first
            checkpoint = resume.find(folder.path, mode)
            if checkpoint is not None and is_finished(folder, config) and mode == "auto":
                resume.refuse_other_config(
                    store.read_meta(checkpoint)["config"], config.model_dump(mode="json"), checkpoint
                )
                if first:
                    print(f"{folder.path} is finished (step {folder.summary()['step']}): nothing to do", flush=True)
                return 0
            tracker = Tracker(
                folder, active=first, tensorboard=config.tracking.tensorboard, resumed_at=step_of(checkpoint)
            )
            if config.tracking.wandb_project:
                tracker.also = acceleration.start_wandb(
                    accelerator, config.tracking.wandb_project, config.model_dump(mode="json")
                )
            session = Session(config, accelerator, folder, tracker)
            start(session, checkpoint)
            running.enter_context(session.stop.listening())
            with session.stop, session.saver, session.batches() as batches:
                ending = loop.train(
                    session,
                    profiled(iter(batches), config.profile.steps, folder.tensorboard, worker=f"rank{session.rank}"),
                )
            if first:
                finish(session, ending)
            return HEALTHY[ending]
        except (QuellError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:  # the writing of an open file does not name it
                error.filename = str(folder.path)
            if ours and isinstance(error, QuellError):
                note_failure(folder, error)
            raise
        finally:
            if tracker is not None:
                tracker.close()
            acceleration.close(accelerator)


def claim(folder: RunFolder, accelerator: Accelerator, running: ExitStack) -> None:
    """Have rank 0 hold the folder's lock while `running`; MachineError on every rank where another run has it."""
    refused = [""]
    if accelerator.is_main_process:
        try:
            running.enter_context(folder.alone())
        except MachineError as error:
            refused = [str(error)]
    if accelerator.num_processes > 1:
        broadcast_object_list(refused)
    if refused[0]:
        raise MachineError(refused[0])


def describe(config: RunConfig) -> int:
    """Print the resolved run: configuration, parameters per network, steps, shards; nothing is written or trained.

    Raises what the first step would refuse, such as crops too small for a critic.
    """
    print(dump(config), end="")
    precision.precision(config.loop, on_cpu=not torch.accelerator.is_available())
    shards = splits.open_training(config.data)
    pipeline = make_pipeline(config, shards)
    splits.refuse_unfit_validation(type(pipeline).needs(config.pipeline), config.data, shards)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    refuse_uneven(config, world)
    plan = make_plan(config, splits.size(shards, config.data.limit), 0, world)
    steps, epochs = length(config, plan)
    print("\nnetworks")
    for phase, parts in pipeline.phases.items():
        for part in parts:
            value = getattr(pipeline, part)
            count = value.numel() if hasattr(value, "numel") else sum(p.numel() for p in value.parameters())
            print(f"  {phase:12} {part:16} {count:>12,} parameters")
    print(
        f"\n{plan.size} samples of {', '.join(sorted(shards.fields))} in {len(shards.shards)} shards at {shards.path}"
    )
    print(
        f"{plan.size / plan.batch:.2f} steps per epoch, {steps} steps = {epochs:.2f} epochs, "
        f"{plan.batch} samples a step on {world} process{'es' if world > 1 else ''}"
    )
    print(f"trying the losses on {min(TRIED, plan.micro_batch)} samples", flush=True)
    try_losses(config, pipeline, shards, plan)
    return 0


@torch.no_grad()
def try_losses(config: RunConfig, pipeline: Pipeline, shards: ShardSet, plan: SampleOrder) -> None:
    """Compute the losses of the first step on a few real samples, and forget them: nothing is learned.

    A small batch is enough, because no network or loss refuses one for its number of samples alone. What is otherwise
    calibrated on whole images is measured on these samples, and a stream is not read further than to them.
    """
    count = min(TRIED, plan.micro_batch)
    recipe = loading.training_recipe(type(pipeline).needs(config.pipeline), config.data, shards)
    small = config.data.model_copy(update={"stream_buffer": count, "prefetch": 1})
    few = replace(plan, batch=count, rank=0, world=1, accumulate=1)
    with loading.training_loader(recipe, small, shards, few, steps=1) as batches:
        (batch,) = next(iter(batches))
    if pipeline.calibrates:
        pipeline.calibrate([batch])
    pipeline.on_step_start(0, 0.0)
    carry: dict[str, Tensor] = {}
    for phase in pipeline.phases:
        if pipeline.is_active(phase, 0):
            carry |= pipeline.loss(phase, batch, carry).carry


def refuse_uneven(config: RunConfig, world: int) -> None:
    """ConfigError unless the global batch divides into equal micro-batches on every process."""
    shares = world * config.loop.accumulate
    if config.data.batch_size % shares:
        raise ConfigError(
            f"data.batch_size {config.data.batch_size} is the global batch and does not divide "
            f"by {world} processes x loop.accumulate {config.loop.accumulate}; choose a multiple of "
            f"{shares}"
        )


def step_of(checkpoint: Path | None) -> int:
    """The step a checkpoint was taken at; 0 without one."""
    return 0 if checkpoint is None else int(store.read_meta(checkpoint)["step"])


def is_finished(folder: RunFolder, config: RunConfig) -> bool:
    """Whether the run in this folder reached the length this configuration asks for."""
    summary = folder.summary()
    if summary.get("status") != "finished":
        return False
    wanted = config.loop.max_steps
    return folder.config().loop == config.loop or (wanted is not None and summary.get("step", 0) >= wanted)


def start(session: Session, checkpoint: Path | None) -> None:
    """Load the checkpoint or the warm start, and write down what runs here."""
    if checkpoint is not None:
        resume.load(session, checkpoint)
        session.tracker.say(f"resuming {session.folder.path} at step {session.step} of {session.steps}")
    else:
        resume.warm_start(session)
    world = f"{session.world} process{'es' if session.world > 1 else ''}"
    session.tracker.say(f"training with {world} on {session.device}, precision {session.precision}")
    if session.rank == 0:
        store.clean_up(session.folder.checkpoints)
        session.folder.write_config(session.config)
        session.folder.write_summary(status="running", step=session.step, steps=session.steps, exit_code=None)
        session.tracker.text("config", "```yaml\n" + dump(session.config) + "```")
        session.tracker.event(
            "resume" if checkpoint else "start",
            session.step,
            {
                "steps": session.steps,
                "world": session.world,
                "commit": session.commit,
                "device": str(session.device),
                "precision": session.precision,
                "command": " ".join(sys.argv),
            },
        )


def finish(session: Session, ending: str) -> None:
    """Say how the run ended, in words and in summary.json."""
    stopped = ending == loop.STOPPED
    session.tracker.event("end", session.step, {"status": ending, "signal": session.stop.received})
    session.folder.write_summary(
        status=ending,
        step=session.step,
        steps=session.steps,
        exit_code=HEALTHY[ending],
        metrics=session.metrics,
        warnings=session.tracker.warnings,
        bench=session.meter.bench(),
    )
    said = "finished"
    if stopped:
        said = f"stopped by {session.stop.received} with a checkpoint; start the same command again to continue"
    session.tracker.say(f"{said}: step {session.step} of {session.steps}, {session.folder.path}")


def note_failure(folder: RunFolder, error: QuellError) -> None:
    """Leave the reason of a failure in the run folder, where there is one.

    A run that is finished stays so when a command that would change it is refused.
    """
    if folder.path.is_dir() and os.access(folder.path, os.W_OK) and folder.summary().get("status") != "finished":
        status = "diverged" if isinstance(error, DivergedError) else "failed"
        folder.write_summary(status=status, exit_code=error.exit_code, error=str(error))
