"""The training loop. Read this first.

A step takes a global batch through every phase of the pipeline (phases.py). Between steps the loop logs, evaluates the
validation split, saves checkpoints, and checks whether all ranks have agreed to stop.
"""

import math
from collections.abc import Iterator

from configs.errors import QuellError
from launch.training import schedules
from launch.training.phases import train_step
from launch.training.session import Session
from pipelines.base import Batch

FINISHED, STOPPED = "finished", "stopped"


def train(session: Session, batches: Iterator[list[Batch]]) -> str:
    """Train from the session's step on; how it ended: finished, or stopped on a signal with a checkpoint."""
    s = session
    s.meter.start()
    for global_batch in batches:
        epoch = s.plan.epoch_at(s.step)
        s.pipeline.on_step_start(s.step, epoch)
        set_rates(s, epoch)
        micro_batches = [s.to_device(batch) for batch in global_batch]
        s.meter.add(train_step(s.phases, s.pipeline, s.step, micro_batches, s.scaler))
        if s.average is not None:
            with s.whole():
                s.average.update(s.step)
        s.step += 1
        last = s.step == s.steps
        ended_epoch = s.plan.ends_epoch(s.step - 1) or last

        if s.step % s.config.tracking.log_every == 0 or last:
            s.saver.poll()
            s.meter.log()
        if ended_epoch:
            s.meter.end_epoch()
        if due(s.config.evaluation.every_steps, s) or (ended_epoch and epoch_due(s)) or last:
            measure(s)
        if due(s.config.checkpoint.every_steps, s) or (ended_epoch and not s.config.checkpoint.every_steps) or last:
            s.save(wait=last)
        if s.stop.agreed() and not last:
            s.save(wait=True)
            return STOPPED
    if s.step == s.steps:
        measure(s)  # nothing, unless a run comes back that had learned all and was not measured
    return FINISHED


def measure(s: Session) -> None:
    """Measure the validation split; where that fails on any rank, save what has been learned before saying so."""
    try:
        s.evaluate()
    except QuellError:
        s.save(wait=True)
        raise


def set_rates(s: Session, epoch: float) -> None:
    """Give every phase the learning rate of this step."""
    for phase in s.phases:
        phase.set_rate(
            s.plateau.factor(phase.base_lr)
            * schedules.factor(
                s.config.schedule, step=s.step, steps=s.steps, epoch=epoch, epochs=s.epochs, lr=phase.base_lr
            )
        )


def due(every: int | None, s: Session) -> bool:
    """Whether an interval in steps ends here."""
    return every is not None and s.step % every == 0


def epoch_due(s: Session) -> bool:
    """Whether an interval in epochs ends with the epoch that just ended."""
    every = s.config.evaluation.every_epochs
    if every is None:
        return False
    before, now = s.plan.epoch_at(s.step - 1), s.plan.epoch_at(s.step)
    return math.floor(now / every + 1e-9) > math.floor(before / every + 1e-9)
