"""From a configuration to a finished run folder."""

import shutil
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from quell.configs.errors import EXIT_INTERRUPTED, EXIT_REQUEUE, DivergedError, MachineError, QuellError
from quell.configs.loader import dump
from quell.configs.schema import RunConfig
from quell.configs.source_code import files
from quell.configs.support.logs import get_logger
from quell.configs.support.paths import ROOT
from quell.configs.support.run_status import RUNNING
from quell.launch.capsule import start as capsule
from quell.launch.capsule.own_modules import own_modules
from quell.launch.capsule.weights import fingerprint
from quell.launch.checkpoints import best, lineage, resume, store
from quell.launch.checkpoints.capture import restore, restore_rank
from quell.launch.checkpoints.files import explained
from quell.launch.checkpoints.resume import Resumption
from quell.launch.machine import acceleration, agreement, devices, out_of_memory, ranks
from quell.launch.machine.profiling import profiled
from quell.launch.machine.rng import seed_everything
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Ending, Tracker
from quell.launch.runs.trackers import choice
from quell.launch.runs.trackers.backend import TrackedRun
from quell.launch.runs.trackers.choice import Relays
from quell.launch.runs.trackers.ledger import Ledger, line_name
from quell.launch.training import loop
from quell.launch.training.build import refuse_uneven_batch
from quell.launch.training.metric_log import median_speed
from quell.launch.training.trainer import Trainer, assemble

EXIT_CODES = {loop.FINISHED: 0, loop.STOPPED: EXIT_REQUEUE, loop.INTERRUPTED: EXIT_INTERRUPTED}
"""How training ended -> exit code of the process."""

PATIENCE_FINISHED_S, PATIENCE_STOPPED_S = 120.0, 15.0
"""How long trackers may send what is left when a run is finished, and when it was stopped and will be resumed."""

log = get_logger(__name__)


def train(
    config: RunConfig, run_dir: Path, *, mode: str = "auto", stop_at: int | None = None, ends_process: bool = True
) -> int:
    """Train, evaluate and save. Whatever ends the run, the process group is closed and summary.json says how it ended.

    Args:
        config: What to train.
        run_dir: Run folder; created where it does not exist, continued where it has checkpoints.
        mode: `auto`, `never`, or the path of a checkpoint to continue from, as of --resume. A finished run is
            left as it is.
        stop_at: Save at this step and stop there; None trains to the end.
        ends_process: Whether a second Ctrl-C ends the process at once; False in a program of the user's, where it
            raises KeyboardInterrupt.

    Returns:
        The exit code: 0 (also at `stop_at`), 75 when a signal stopped the run with a checkpoint, or 130 when that was
        Ctrl-C.

    Raises:
        QuellError: What the user can mend, in one sentence (configs/errors.py).
    """
    accelerator = acceleration.make_accelerator(config.loop)
    folder = RunFolder(run_dir)
    owns_folder = False
    with ExitStack() as until_closed:  # holds the folder's lock, and listens to signals until everything is written
        try:
            refuse_uneven_batch(config, accelerator.num_processes)
            folder.create()
            claim(folder, accelerator, until_closed)
            owns_folder = accelerator.is_main_process
            resumption = agreement.on_first(accelerator, lambda: resume.find_checkpoint(folder.path, mode))
            if resumption.checkpoint is not None:
                saved = store.read_meta(resumption.checkpoint)
                resume.refuse_imported(saved, resumption.checkpoint)
                resume.refuse_other_config(
                    saved["config"],
                    config.model_dump(mode="json"),
                    resumption.checkpoint,
                    precision=resume.precision_of(resumption.checkpoint),
                )
                if mode == "auto" and is_finished(folder, config, saved["step"]):
                    if accelerator.is_main_process:
                        log.info("%s is finished (step %s): nothing to do", folder.path, saved["step"])
                    return 0
            with ranks.explained():
                return _train(
                    config, accelerator, folder, resumption, until_closed, stop_at=stop_at, ends_process=ends_process
                )
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:  # writing to an open file does not name it
                error.filename = str(folder.path)
            if owns_folder:
                note_failure(folder, error)
            raise
        finally:
            acceleration.close(accelerator)


def _train(
    config: RunConfig,
    accelerator: Accelerator,
    folder: RunFolder,
    resumption: Resumption,
    until_closed: ExitStack,
    *,
    stop_at: int | None,
    ends_process: bool,
) -> int:
    """Assemble, start or resume, train; the exit code."""
    checkpoint, world = resumption.checkpoint, accelerator.num_processes
    aside = keep_log(folder, checkpoint) if accelerator.is_main_process else None
    tracker = Tracker(
        folder,
        active=accelerator.is_main_process,
        tensorboard="tensorboard" in choice.chosen(config.tracking),
        resumed_at=step_of(checkpoint),
    )
    ended: Ending = "failed"
    try:
        choice.require(config.tracking)
        with out_of_memory.explained(accelerator.device, lambda: out_of_memory.training(config, world)):
            trainer = assemble(config, accelerator, folder, tracker, checkpoint=checkpoint)
            trainer.stop.at_step = stop_at
            if trainer.context.is_first:
                tracker.also = start_trackers(trainer, resumption)
            start(trainer, resumption, aside)
            until_closed.enter_context(trainer.stop.listening(ends_process=ends_process))
            with trainer.stop, trainer.checkpointer, trainer.batches() as batches:
                worker = f"rank{trainer.context.rank}"
                on_device = trainer.on_device(batches)
                timed = profiled(on_device, config.profile.steps, folder.tensorboard, worker=worker)
                ending = loop.train(trainer, timed)
        if trainer.context.is_first:
            finish(trainer, ending)
        ended = "finished" if ending == loop.FINISHED else "stopped"
        return exit_code(trainer, ending)
    except KeyboardInterrupt:
        ended = "stopped"
        raise
    finally:
        tracker.close(PATIENCE_FINISHED_S if ended == "finished" else PATIENCE_STOPPED_S, ended)


def start_trackers(trainer: Trainer, resumption: Resumption) -> Relays | None:
    """Start the trackers beside TensorBoard, where there are any; a run that is continued is the same run there.

    One that starts from zero in its folder is, too, as long as configuration, code and training data are the same.
    """
    context, same = trainer.context, True
    config, folder = context.config, context.folder
    if set(choice.chosen(config.tracking)) <= {"tensorboard"}:
        return None
    if resumption.checkpoint is None and folder.config_file.is_file():
        try:
            earlier = folder.config().model_dump(mode="json")
            resume.refuse_other_config(earlier, config.model_dump(mode="json"), folder.path)
        except QuellError:
            same = False
    line = line_name([(branch["after"], branch["start"]) for branch in resumption.line])
    settings = config.model_dump(mode="json") | {"run": {"commit": context.commit, "processes": context.world}}
    run = TrackedRun(
        name=folder.path.resolve().name + (f" from step {step_of(resumption.checkpoint)}" if line else ""),
        run_dir=folder.path,
        tracking=config.tracking,
        config=choice.without_secrets(settings),
    )
    origin = made_from(trainer) if resumption.checkpoint is None else None
    ledger = Ledger(folder.path, line, is_same_run=same, origin=origin)
    return choice.start(run, ledger, context.tracker.events)


def made_from(trainer: Trainer) -> dict[str, str]:
    """Fingerprints of the code and the training data, by name."""
    own = own_modules(trainer.context.config.pipeline.model_dump(mode="json"))
    return {
        "code": files.fingerprint(files.contents(ROOT)),
        "own_modules": files.fingerprint({path: text.encode() for path, text in own.items()}),
        "data": trainer.shards.fingerprint,
    }


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


def is_finished(folder: RunFolder, config: RunConfig, saved_step: int) -> bool:
    """Whether the run in this folder has reached the length that this configuration asks for, and has its result."""
    summary = folder.summary()
    step = summary.get("step")
    if summary.get("status") != loop.FINISHED or not isinstance(step, int) or saved_step < step:
        return False
    try:
        saved = folder.config().loop
        kept = {"precision": saved.precision} if config.loop.precision == "auto" else {}  # auto continues with either
        same_loop = saved == config.loop.model_copy(update=kept)
    except QuellError:  # config.yaml is damaged, and will be written again
        same_loop = False
    wanted = config.loop.max_steps
    return same_loop or (wanted is not None and step >= wanted)


def keep_log(folder: RunFolder, checkpoint: Path | None) -> Path | None:
    """Copy the log before it is cut to a checkpoint that the run returns to; the folder for the work after it.

    None where nothing was saved after the checkpoint.
    """
    if checkpoint is None or not lineage.strangers(folder.checkpoints, checkpoint):
        return None
    aside = lineage.aside_folder(folder.checkpoints, checkpoint)
    with explained(aside, "write"):
        aside.mkdir()
        if folder.metrics_file.is_file():
            shutil.copyfile(folder.metrics_file, aside / folder.metrics_file.name)
    return aside


def start(trainer: Trainer, resumption: Resumption, aside: Path | None) -> None:
    """Restore the checkpoint or warm-start the weights, and write down what runs here. Collective.

    Args:
        trainer: The parts of the run.
        resumption: What it continues from.
        aside: Where checkpoints go that it does not descend from; None where there are none.
    """
    context, state, checkpoint = trainer.context, trainer.state, resumption.checkpoint
    tracker, config = context.tracker, context.config
    for note in resumption.notes:
        tracker.info(note)
    for warning in resumption.warnings:
        tracker.warning("damaged checkpoint", warning, state.step)
    if checkpoint is not None:
        restore_run(trainer, checkpoint)
        tracker.info(f"resuming {context.folder.path} at step {state.step} of {context.steps}")
    elif config.init_from is not None:
        tracker.info(resume.warm_start(state, config.init_from))
    trainer.checkpointer.continue_line(resumption.line, checkpoint)
    with state.gathered_parameters():
        initial = fingerprint(state.pipeline.checkpoint_state()) if context.is_first and checkpoint is None else None
    if not context.is_first:
        return
    facts = capsule.Facts(
        config, state.step, context.world, context.device, context.precision, context.commit, checkpoint, initial
    )
    if problem := capsule.keep_start(context.folder, facts, state.pipeline, trainer.shards):
        tracker.warning("capsule", problem, state.step)
    if checkpoint is not None:
        arrange(context.folder, checkpoint, aside, tracker, config)
    context.folder.write_config(config)
    context.folder.write_summary(status=RUNNING, step=state.step, steps=context.steps, exit_code=None, error=None)
    tracker.text("config", "```yaml\n" + dump(config) + "```")
    tracker.event(
        "resume" if checkpoint else "start",
        state.step,
        {
            "steps": context.steps,
            "world": context.world,
            "commit": context.commit,
            "device": str(context.device),
            "device_name": devices.name(context.device),
            "precision": context.precision,
            "command": " ".join(sys.argv),
        },
    )


def arrange(folder: RunFolder, checkpoint: Path, aside: Path | None, tracker: Tracker, config: RunConfig) -> None:
    """Leave in the run's `checkpoints/` only the line of descent, as far as it is kept, and best.json."""
    with explained(folder.checkpoints, "write"):
        if aside is not None:
            strangers = lineage.strangers(folder.checkpoints, checkpoint)
            lineage.set_aside(strangers, aside)
            names = ", ".join(path.name for path in reversed(strangers))
            tracker.info(f"moved {names} to {aside}: this run continues from {checkpoint.name}, not from there")
        best.write_best(folder.checkpoints, config.evaluation.metric)
        if checkpoint.parent.resolve() == folder.checkpoints.resolve():  # a kill may have prevented it
            kept = config.checkpoint
            store.retain(checkpoint, kept.keep_last, config.evaluation.metric, keep_best=kept.keep_best)


def restore_run(trainer: Trainer, checkpoint: Path) -> None:
    """Return a run to the moment of a checkpoint, written by any number of processes. Collective.

    Raises:
        CheckpointError: It belongs to another configuration, model or data set, is beyond the end, or is damaged.
    """
    context, state = trainer.context, trainer.state
    meta = store.read_meta(checkpoint)
    accepted = resume.refuse_other_data(
        meta, context.order.size, trainer.shards, checkpoint, allowed=context.config.checkpoint.allow_other_data
    )
    resume.refuse_shorter(int(meta["step"]), context.steps, checkpoint)
    if accepted:
        context.tracker.warning("other data", accepted, int(meta["step"]))
    restore(state, checkpoint)
    now = {"config": context.config.model_dump(mode="json")}
    has_same_metric = meta["config"].get("evaluation", {}).get("metric") == context.config.evaluation.metric
    if not has_same_metric or best.measured_images(meta) != best.measured_images(now):
        trainer.early_stop.forget()  # values of another metric, or of other images, say nothing about those to come
        trainer.plateau.forget()
    if meta["config"].get("evaluation") == context.config.model_dump(mode="json")["evaluation"]:
        trainer.validator.continue_from(meta.get("metrics") or {})
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


def exit_code(trainer: Trainer, ending: str) -> int:
    """The exit code of a run that ended so; 0 where it stopped at the step that was asked for."""
    is_as_asked = ending == loop.STOPPED and trainer.stop.received is None
    return 0 if is_as_asked else EXIT_CODES[ending]


def finish(trainer: Trainer, ending: str) -> None:
    """Log how the run ended, and write it into summary.json."""
    context, step = trainer.context, trainer.state.step
    context.tracker.event("end", step, {"status": ending, "signal": trainer.stop.received})
    found = best.find_best(context.folder.checkpoints, context.config.evaluation.metric)
    context.folder.write_summary(
        status=ending,
        step=step,
        steps=context.steps,
        exit_code=exit_code(trainer, ending),
        metrics=trainer.validator.metrics,
        best=found,
        warnings=context.tracker.warnings,
        bench=median_speed(trainer.speeds),
    )
    if found is not None and ending == loop.FINISHED:
        context.tracker.info(
            f"best {found['metric']} {found['value']:.4g} at step {found['step']}: evaluate and denoise use that "
            "checkpoint"
        )
    outcome = "finished"
    if ending != loop.FINISHED:
        by = "Ctrl-C" if ending == loop.INTERRUPTED else trainer.stop.received
        outcome = f"stopped by {by} with a checkpoint; start the same command again to continue"
        if trainer.stop.received is None:
            outcome = "stopped as asked (--stop-at) with a checkpoint; start again without --stop-at to continue"
    context.tracker.info(f"{outcome}: step {step} of {context.steps}, {context.folder.path}")


def note_failure(folder: RunFolder, error: BaseException) -> None:
    """Write into the run folder, where the disk allows it, that the run failed or was interrupted, and why.

    A finished run stays finished when a command that would change it is refused.
    """
    if folder.summary().get("status") == loop.FINISHED:
        return
    status, code = "failed", getattr(error, "exit_code", 1)
    if isinstance(error, DivergedError):
        status = "diverged"
    elif isinstance(error, KeyboardInterrupt):
        status, code = loop.INTERRUPTED, EXIT_INTERRUPTED
    elif isinstance(error, OSError):
        code = MachineError.exit_code
    reason = str(error) if isinstance(error, QuellError | OSError) else f"{type(error).__name__}: {error}"
    with suppress(OSError):  # readers see that the process is gone
        folder.write_summary(status=status, exit_code=code, error=reason)
