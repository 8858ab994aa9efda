"""From a configuration to a finished run folder."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from configs.errors import EXIT_REQUEUE, DivergedError, MachineError, QuellError
from configs.loader import dump
from configs.schema import RunConfig
from configs.support.logs import get_logger
from launch.checkpoints import resume, store
from launch.checkpoints.capture import restore, restore_rank
from launch.machine import acceleration
from launch.machine.profiling import profiled
from launch.machine.rng import seed_everything
from launch.runs.folder import RunFolder
from launch.runs.tracker import Tracker
from launch.training import loop
from launch.training.build import refuse_uneven_batch
from launch.training.metric_log import median_speed
from launch.training.trainer import Trainer, assemble

EXIT_CODES = {loop.FINISHED: 0, loop.STOPPED: EXIT_REQUEUE}
"""How training ended -> exit code of the process."""

log = get_logger(__name__)


def train(config: RunConfig, run_dir: Path, *, mode: str = "auto") -> int:
    """Train, evaluate and save. Whatever ends the run, the process group is closed and summary.json says how it ended.

    Args:
        config: What to train.
        run_dir: Run folder; created where it does not exist, continued where it has checkpoints.
        mode: `auto`, `never`, or the path of a checkpoint to continue from, as of --resume. A finished run is
            left as it is.

    Returns:
        The exit code: 0, or 75 when a signal stopped the run with a checkpoint.

    Raises:
        QuellError: What the user can mend, in one sentence (configs/errors.py).
    """
    accelerator = acceleration.make_accelerator(config.loop, complex_numbers=config.data.representation == "complex")
    folder = RunFolder(run_dir)
    owns_folder = False
    with ExitStack() as until_closed:  # holds the folder's lock, and listens to signals until everything is written
        try:
            refuse_uneven_batch(config, accelerator.num_processes)
            folder.create()
            claim(folder, accelerator, until_closed)
            owns_folder = accelerator.is_main_process
            checkpoint = resume.find_checkpoint(folder.path, mode)
            if checkpoint is not None and mode == "auto" and is_finished(folder, config):
                saved = store.read_meta(checkpoint)["config"]
                resume.refuse_other_config(saved, config.model_dump(mode="json"), checkpoint)
                if accelerator.is_main_process:
                    log.info("%s is finished (step %s): nothing to do", folder.path, folder.summary()["step"])
                return 0
            return _train(config, accelerator, folder, checkpoint, until_closed)
        except (QuellError, OSError) as error:
            if isinstance(error, OSError) and error.filename is None:  # writing to an open file does not name it
                error.filename = str(folder.path)
            if owns_folder and isinstance(error, QuellError):
                note_failure(folder, error)
            raise
        finally:
            acceleration.close(accelerator)


def _train(
    config: RunConfig, accelerator: Accelerator, folder: RunFolder, checkpoint: Path | None, until_closed: ExitStack
) -> int:
    """Assemble, start or resume, train; the exit code."""
    tracker = Tracker(
        folder,
        active=accelerator.is_main_process,
        tensorboard=config.tracking.tensorboard,
        resumed_at=step_of(checkpoint),
    )
    try:
        if config.tracking.wandb_project:
            settings = config.model_dump(mode="json")
            tracker.also = acceleration.start_wandb(accelerator, config.tracking.wandb_project, settings)
        trainer = assemble(config, accelerator, folder, tracker)
        start(trainer, checkpoint)
        until_closed.enter_context(trainer.stop.listening())
        with trainer.stop, trainer.checkpointer, trainer.batches() as batches:
            worker = f"rank{trainer.context.rank}"
            timed = profiled(iter(batches), config.profile.steps, folder.tensorboard, worker=worker)
            ending = loop.train(trainer, timed)
        if trainer.context.is_first:
            finish(trainer, ending)
        return EXIT_CODES[ending]
    finally:
        tracker.close()


def claim(folder: RunFolder, accelerator: Accelerator, until_closed: ExitStack) -> None:
    """Have rank 0 hold the folder's lock; MachineError on every rank where another run holds it. Collective."""
    refusal = [""]
    if accelerator.is_main_process:
        try:
            until_closed.enter_context(folder.locked())
        except MachineError as error:
            refusal = [str(error)]
    if accelerator.num_processes > 1:
        broadcast_object_list(refusal)
    if refusal[0]:
        raise MachineError(refusal[0])


def step_of(checkpoint: Path | None) -> int:
    """The step a checkpoint was saved at; 0 without one."""
    return 0 if checkpoint is None else int(store.read_meta(checkpoint)["step"])


def is_finished(folder: RunFolder, config: RunConfig) -> bool:
    """Whether the run in this folder has reached the length that this configuration asks for."""
    summary = folder.summary()
    if summary.get("status") != loop.FINISHED:
        return False
    wanted = config.loop.max_steps
    return folder.config().loop == config.loop or (wanted is not None and summary.get("step", 0) >= wanted)


def start(trainer: Trainer, checkpoint: Path | None) -> None:
    """Restore the checkpoint or warm-start the weights, and write down what runs here. Collective."""
    context, state = trainer.context, trainer.state
    tracker, config = context.tracker, context.config
    if checkpoint is not None:
        restore_run(trainer, checkpoint)
        tracker.info(f"resuming {context.folder.path} at step {state.step} of {context.steps}")
    elif config.init_from is not None:
        tracker.info(resume.warm_start(state, config.init_from))
    world = f"{context.world} process{'es' if context.world > 1 else ''}"
    tracker.info(f"training with {world} on {context.device}, precision {context.precision}")
    if not context.is_first:
        return
    store.clean_up(context.folder.checkpoints)
    context.folder.write_config(config)
    context.folder.write_summary(status="running", step=state.step, steps=context.steps, exit_code=None)
    tracker.text("config", "```yaml\n" + dump(config) + "```")
    tracker.event(
        "resume" if checkpoint else "start",
        state.step,
        {
            "steps": context.steps,
            "world": context.world,
            "commit": context.commit,
            "device": str(context.device),
            "precision": context.precision,
            "command": " ".join(sys.argv),
        },
    )


def restore_run(trainer: Trainer, checkpoint: Path) -> None:
    """Return a run to the moment of a checkpoint, written by any number of processes. Collective.

    Raises:
        CheckpointError: It belongs to another configuration, model or data set, or is damaged.
    """
    context, state = trainer.context, trainer.state
    meta = store.read_meta(checkpoint)
    resume.refuse_other_config(meta["config"], context.config.model_dump(mode="json"), checkpoint)
    resume.refuse_other_size(meta["samples"], context.order.size, checkpoint, trainer.shards.path)
    restore(state, checkpoint, device=context.device)
    if meta["world"] == context.world:
        restore_rank(state, checkpoint, rank=context.rank)
        return
    # ranks that did not exist before have no state to restore: all draw from seeds of their own
    seed_everything(context.config.seed + 1_000_003 * context.rank + state.step)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    follows = "some samples of this epoch are repeated and others skipped"
    if context.config.data.mode == "indexed":
        follows = "the same samples follow"
    context.tracker.info(
        f"the checkpoint was written by {meta['world']} processes, now there are {context.world}: {follows}; random "
        "states and image pools of the ranks start fresh"
    )


def finish(trainer: Trainer, ending: str) -> None:
    """Log how the run ended, and write it into summary.json."""
    context, step = trainer.context, trainer.state.step
    context.tracker.event("end", step, {"status": ending, "signal": trainer.stop.received})
    context.folder.write_summary(
        status=ending,
        step=step,
        steps=context.steps,
        exit_code=EXIT_CODES[ending],
        metrics=trainer.validator.metrics,
        warnings=context.tracker.warnings,
        bench=median_speed(trainer.speeds),
    )
    outcome = "finished"
    if ending == loop.STOPPED:
        outcome = f"stopped by {trainer.stop.received} with a checkpoint; start the same command again to continue"
    context.tracker.info(f"{outcome}: step {step} of {context.steps}, {context.folder.path}")


def note_failure(folder: RunFolder, error: QuellError) -> None:
    """Write the reason of a failure into the run folder, where there is one.

    A finished run stays finished when a command that would change it is refused.
    """
    if folder.path.is_dir() and os.access(folder.path, os.W_OK) and folder.summary().get("status") != loop.FINISHED:
        status = "diverged" if isinstance(error, DivergedError) else "failed"
        folder.write_summary(status=status, exit_code=error.exit_code, error=str(error))
