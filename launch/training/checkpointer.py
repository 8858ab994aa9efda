"""Saving checkpoints of a run: captured together by all ranks, written in the background, the best one noted."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from quell.configs.errors import MachineError
from quell.configs.support.json_files import Record
from quell.configs.support.logs import get_logger
from quell.launch.checkpoints import best, lineage, store
from quell.launch.checkpoints.async_writer import AsyncWriter, note_failure, wait_for_files
from quell.launch.checkpoints.capture import TrainingState, capture, reserve
from quell.launch.checkpoints.files import explained
from quell.launch.checkpoints.layout import folder_name
from quell.launch.checkpoints.lineage import Line
from quell.launch.checkpoints.snapshot import Snapshots
from quell.launch.machine import agreement
from quell.launch.machine.acceleration import TIMEOUT, uses_deepspeed
from quell.launch.training.context import RunContext
from quell.launch.training.validator import Validator

log = get_logger(__name__)


class Checkpointer:
    """Saves a run's checkpoints. As a context manager around the loop it waits for the last write."""

    def __init__(self, context: RunContext, state: TrainingState, validator: Validator, *, data: str) -> None:
        """Prepare to save; `data` is the fingerprint of the training split, which a resumed run compares."""
        self._context, self._state, self._validator, self._data = context, state, validator, data
        self._writer = AsyncWriter()
        self._snapshots: Snapshots | None = None
        self._line: Line = lineage.fresh()
        self._saved: tuple[int, bool] | None = None
        """Step of the last checkpoint that is on disk, and whether it has metrics."""

    def __enter__(self) -> "Checkpointer":
        self._writer.__enter__()
        return self

    def __exit__(self, kind: object, *others: object) -> None:
        self._writer.__exit__(kind, *others)

    @property
    def failed(self) -> bool:
        """Whether this process could not write its part of the last checkpoint; the next `save` raises it on all."""
        return self._writer.failed

    def continue_line(self, line: Line, checkpoint: Path | None) -> None:
        """Continue a line of descent from a checkpoint, of this run or of another; None for a fresh start."""
        self._line = line
        if checkpoint is not None and checkpoint.parent.resolve() == self._context.folder.checkpoints.resolve():
            self._saved = (self._state.step, bool(store.read_meta(checkpoint).get("metrics")))

    def poll(self) -> None:
        """Finish a write that is done; never waits, and leaves errors to the next `save`.

        Before the first save, allocate its memory in a thread. Assembling what DeepSpeed shards only for its shapes
        would cost more than that saves.
        """
        self._writer.poll()
        if self._snapshots is None and self._saves_in_background and not uses_deepspeed():
            self._snapshots = Snapshots()
            reserve(self._state, rank=self._context.rank, snapshots=self._snapshots)

    def save(self, *, wait: bool = False) -> None:
        """Save a checkpoint of this step, name the best one, delete old ones; nothing where that is done. Collective.

        A thread writes a snapshot while training goes on (checkpoint.asynchronous). The next save waits for it.

        Args:
            wait: Return only when the checkpoint is on disk.

        Raises:
            MachineError: This checkpoint or the last one could not be written, by any rank: all ranks raise it.
        """
        context, folder = self._context, self._context.folder.checkpoints

        def prepare() -> None:
            self._writer.finish()
            if context.is_first and not self._is_saved():
                context.tracker.flush()
                store.begin(folder, self._state.step)

        agreement.on_all(prepare, context.world)
        if self._is_saved():
            return
        wait = wait or not context.config.checkpoint.asynchronous
        metrics = self._validator.current_metrics
        write = self._prepare(folder / f".{folder_name(self._state.step)}", metrics, copy=not wait)
        step = self._state.step
        self._writer.start(write, lambda: self._on_saved(step, bool(metrics)), wait=False)
        if wait:
            agreement.on_all(self._writer.finish, context.world)

    @property
    def _saves_in_background(self) -> bool:
        """Whether some checkpoint is taken before the end, while training goes on."""
        checkpoint, context = self._context.config.checkpoint, self._context
        early = context.steps > checkpoint.every_steps if checkpoint.every_steps else context.epochs > 1
        return checkpoint.asynchronous and early

    def _is_saved(self) -> bool:
        """Whether this step is on disk, with its metrics if they are known by now."""
        if self._saved is None or self._saved[0] != self._state.step:
            return False
        return self._saved[1] or not self._validator.current_metrics

    def _prepare(self, hidden: Path, metrics: dict[str, float], *, copy: bool) -> Callable[[], None]:
        """Capture this moment; what writes it to `hidden`, now or (with `copy`) while training changes everything."""
        context = self._context
        if copy and self._snapshots is None:
            self._snapshots = Snapshots()
        captured = capture(self._state, rank=context.rank, snapshots=self._snapshots if copy else None)
        meta = self._meta(metrics)

        def write() -> None:
            try:
                captured().write(hidden, context.rank)
                if not context.is_first:
                    return
                wait_for_files([hidden / f"rank-{r}.pt" for r in range(context.world)], TIMEOUT.total_seconds())
                published = store.publish(hidden, meta)
            except BaseException as error:
                store.abandon(hidden) if context.is_first else note_failure(hidden, context.rank, error)
                raise
            self._tidy_up(published)

        return write

    def _tidy_up(self, published: Path) -> None:
        """Name the best checkpoint and remove old ones; a failure costs space, but nothing that was learned."""
        metric, checkpoint = self._context.config.evaluation.metric, self._context.config.checkpoint
        for work in (
            lambda: best.write_best(published.parent, metric),
            lambda: store.retain(published, checkpoint.keep_last, metric, keep_best=checkpoint.keep_best),
        ):
            try:
                with explained(published.parent, "write"):
                    work()
            except MachineError as error:
                log.warning("%s", error)

    def _meta(self, metrics: dict[str, float]) -> Record:
        context = self._context
        return {
            "step": self._state.step,
            "epoch": context.order.epoch_at(self._state.step),
            "world": context.world,
            "precision": context.precision,
            "draws": self._state.pipeline.draws,
            "commit": context.commit,
            "samples": context.order.size,
            "data": self._data,
            "line": self._line,
            "config": context.config.model_dump(mode="json"),
            "metrics": metrics,
            "images": {name: asdict(kind) for name, kind in context.images.items()},
            "training_data": context.training_data.to_json(),
        }

    def _on_saved(self, step: int, has_metrics: bool) -> None:
        """Log that a checkpoint is complete."""
        self._saved = (step, has_metrics)
        if self._context.is_first:
            with explained(self._context.folder.path, "write"):
                self._context.tracker.event("checkpoint", step, {})
                self._context.folder.write_summary(status="running", step=step, steps=self._context.steps)
