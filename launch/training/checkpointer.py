"""Saving checkpoints of a run: captured together by all ranks, written in the background, the best one noted."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from accelerate.utils import broadcast_object_list

from configs.support.json_files import Record
from launch.checkpoints import store
from launch.checkpoints.async_writer import AsyncWriter, wait_for_files
from launch.checkpoints.capture import TrainingState, capture
from launch.evaluation.evaluator import LOWER_IS_BETTER
from launch.machine.acceleration import TIMEOUT
from launch.training.context import RunContext
from launch.training.validator import Validator


class Checkpointer:
    """Saves a run's checkpoints. As a context manager around the loop it waits for the last write."""

    def __init__(self, context: RunContext, state: TrainingState, validator: Validator) -> None:
        self._context, self._state, self._validator = context, state, validator
        self._writer = AsyncWriter()

    def __enter__(self) -> "Checkpointer":
        self._writer.__enter__()
        return self

    def __exit__(self, kind: object, *others: object) -> None:
        self._writer.__exit__(kind, *others)

    def poll(self) -> None:
        """Finish a write that is done; never waits."""
        self._writer.poll()

    def save(self, *, wait: bool = False) -> None:
        """Save a checkpoint of this step, name the best one, delete old ones. Collective.

        A thread writes a snapshot while training goes on (checkpoint.asynchronous). The next save waits for it and
        raises what went wrong.

        Args:
            wait: Return only when the checkpoint is on disk.
        """
        context = self._context
        self._writer.finish()
        hidden = [str(store.begin(context.folder.checkpoints, self._state.step))] if context.is_first else [""]
        if context.world > 1:
            broadcast_object_list(hidden)
        context.tracker.flush()
        wait = wait or not context.config.checkpoint.asynchronous
        write = self._prepare(context.folder.checkpoints / hidden[0], copy=not wait)
        self._writer.start(write, partial(self._on_saved, self._state.step), wait=wait)
        if wait:
            context.accelerator.wait_for_everyone()

    def _prepare(self, hidden: Path, *, copy: bool) -> Callable[[], None]:
        """Capture this moment; what writes it to `hidden`, now or (with `copy`) while training changes everything."""
        context, metrics = self._context, self._validator.current_metrics
        captured, meta = capture(self._state, rank=context.rank, copy=copy), self._meta(metrics)

        def write() -> None:
            captured.write(hidden, context.rank)
            if not context.is_first:
                return
            wait_for_files([hidden / f"rank-{r}.pt" for r in range(context.world)], TIMEOUT.total_seconds())
            store.publish(hidden, meta)
            metric = context.config.evaluation.metric
            if metric in metrics:
                store.note_best(
                    context.folder.checkpoints,
                    meta["step"],
                    metric,
                    metrics[metric],
                    higher_is_better=metric not in LOWER_IS_BETTER,
                )
            store.retain(context.folder.checkpoints, context.config.checkpoint.keep_last)

        return write

    def _meta(self, metrics: dict[str, float]) -> Record:
        context = self._context
        return {
            "step": self._state.step,
            "epoch": context.order.epoch_at(self._state.step),
            "world": context.world,
            "commit": context.commit,
            "samples": context.order.size,
            "config": context.config.model_dump(mode="json"),
            "metrics": metrics,
            "images": {name: asdict(kind) for name, kind in context.images.items()},
        }

    def _on_saved(self, step: int) -> None:
        """Log that a checkpoint is complete."""
        if self._context.is_first:
            self._context.tracker.event("checkpoint", step, {})
            self._context.folder.write_summary(status="running", step=step, steps=self._context.steps)
