"""The training loop. Read this first.

A step takes a global batch through every phase of the pipeline (phases.py). Between steps the loop logs, evaluates the
validation split, saves checkpoints, and checks whether all ranks have agreed to stop.
"""

import math
from collections.abc import Iterator

from quell.configs.errors import QuellError
from quell.configs.schema import RunConfig
from quell.launch.training.phases import train_step
from quell.launch.training.trainer import Trainer
from quell.pipelines.base import Batch

FINISHED, STOPPED, INTERRUPTED = "finished", "stopped", "interrupted"


def train(trainer: Trainer, batches: Iterator[list[Batch]]) -> str:
    """Train from the current step on.

    Args:
        trainer: The parts of the run.
        batches: Global batches, each a list of micro-batches as the loader returns them, on any device.

    Returns:
        FINISHED, STOPPED when a signal or `stop.at_step` ended the run with a checkpoint, or INTERRUPTED when that was
        Ctrl-C.
    """
    context, state, config = trainer.context, trainer.state, trainer.context.config
    trainer.log.start(step=state.step, waited_s=trainer.waited_s)
    if trainer.early_stop.is_due:  # stopped between its last evaluation and its end
        return FINISHED
    if trainer.stop.is_reached(state.step) and state.step < context.steps:
        return STOPPED
    for global_batch in batches:
        state.pipeline.on_step_start(state.step, trainer.epoch)
        trainer.set_learning_rates()
        micro_batches = [trainer.finish(batch) for batch in global_batch]
        trainer.log.add(train_step(trainer.phases, state.pipeline, state.step, micro_batches, state.scaler))
        if trainer.average is not None:
            with state.gathered_parameters():
                trainer.average.update(state.step)
        state.step += 1
        is_last = state.step == context.steps
        epoch_ends = context.order.ends_epoch(state.step - 1) or is_last

        if state.step % config.tracking.log_every == 0 or is_last:
            trainer.checkpointer.poll()
            trainer.log_interval()
        if epoch_ends:
            trainer.end_epoch()
        is_good = False
        if is_due(config.evaluation.every_steps, state.step) or (epoch_ends and epoch_is_due(trainer)) or is_last:
            evaluate(trainer)
            is_good = trainer.early_stop.is_among_best and saves_best(config)
        is_last |= trainer.early_stop.is_due
        save_after_epoch = epoch_ends and not config.checkpoint.every_steps
        if is_due(config.checkpoint.every_steps, state.step) or save_after_epoch or is_good or is_last:
            save(trainer, wait=is_last)
        should_stop = trainer.stop.sync_should_stop(step=state.step, failed=trainer.checkpointer.failed)
        if should_stop and not is_last:
            save(trainer, wait=True)
            return INTERRUPTED if trainer.stop.by_keyboard else STOPPED
        if is_last:
            break
    if trainer.early_stop.is_due:
        patience = config.loop.patience
        context.tracker.info(f"stopping early: {patience} evaluations without a better {config.evaluation.metric}")
    if state.step == context.steps:
        # both do nothing, unless the run was interrupted between its last step and its evaluation
        evaluate(trainer)
        save(trainer, wait=True)
    return FINISHED


def evaluate(trainer: Trainer) -> None:
    """Evaluate the validation split; where that fails on any rank, save what has been learned before raising."""
    try:
        with trainer.log.paused():
            trainer.validator.evaluate()
    except QuellError:
        save(trainer, wait=True)
        raise


def save(trainer: Trainer, *, wait: bool) -> None:
    """Save a checkpoint; with `wait` it is on disk when this returns."""
    with trainer.log.paused():
        trainer.checkpointer.save(wait=wait)


def saves_best(config: RunConfig) -> bool:
    """Whether an evaluation that is among the best is saved, wherever it falls (checkpoint.save_best)."""
    if config.checkpoint.save_best == "auto":
        return config.loop.patience is not None or config.checkpoint.keep_best > 1
    return config.checkpoint.save_best


def is_due(every: int | None, step: int) -> bool:
    """Whether an interval in steps ends here."""
    return every is not None and step % every == 0


def epoch_is_due(trainer: Trainer) -> bool:
    """Whether an interval of evaluation.every_epochs ends with the epoch that just ended."""
    every = trainer.context.config.evaluation.every_epochs
    if every is None:
        return False
    order, step = trainer.context.order, trainer.state.step
    before, now = order.epoch_at(step - 1), order.epoch_at(step)
    return math.floor(now / every + 1e-9) > math.floor(before / every + 1e-9)
