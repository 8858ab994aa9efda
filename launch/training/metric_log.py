"""Running means of what a step gives, read from the device only when they are logged."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from configs.errors import DivergedError
from launch.runs.tracker import progress_line

if TYPE_CHECKING:
    from launch.training.session import Session


class Meter:
    """Keeps the log of every step on the device; reads it at once to log, to close an epoch, and for a checkpoint.

    Sums are added up on the host, one step after the other: the same numbers wherever the reading was cut.
    """

    def __init__(self, session: Session) -> None:
        self.s = session
        self.unread: list[dict[str, Tensor]] = []
        self.since_log: dict[str, list[float]] = {}
        self.epoch_sums: dict[str, float] = {}
        self.epoch_counts: dict[str, int] = {}
        self.in_a_row = self.worst_in_a_row = 0
        self.intervals: list[dict[str, float]] = []
        self.start()

    def start(self) -> None:
        """Begin to time steps, from here on."""
        self.started_s, self.started_at, self.wait_s = time.perf_counter(), self.s.step, self.s.waited_s()
        self.elsewhere_s = 0.0

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Time in this block (measuring, saving) is not training time."""
        began = time.perf_counter()
        yield
        self.elsewhere_s += time.perf_counter() - began

    def state(self) -> dict[str, Any]:
        """This rank's sums of the epoch under way, for the checkpoint."""
        self.read()
        return {"sums": dict(self.epoch_sums), "counts": dict(self.epoch_counts), "in_a_row": self.in_a_row}

    def load(self, state: dict[str, Any]) -> None:
        """Go on within an epoch."""
        self.epoch_sums, self.epoch_counts = dict(state["sums"]), dict(state["counts"])
        self.in_a_row = int(state["in_a_row"])

    def add(self, log: dict[str, Tensor]) -> None:
        """Take one step's numbers; nothing is computed or copied to the host."""
        self.unread.append(log)

    def read(self) -> None:
        """Copy the numbers of all steps so far to the host, in one go."""
        if not self.unread:
            return
        numbers = iter(torch.stack([value.to(self.s.device) for log in self.unread for value in log.values()]).tolist())
        for log in self.unread:
            skipped = False
            for name in log:
                value = next(numbers)
                self.since_log.setdefault(name, []).append(value)
                finite = math.isfinite(value)
                self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + (value if finite else 0.0)
                self.epoch_counts[name] = self.epoch_counts.get(name, 0) + finite
                skipped |= name.startswith("skipped_") and value > 0
            self.in_a_row = self.in_a_row + 1 if skipped else 0
            self.worst_in_a_row = max(self.worst_in_a_row, self.in_a_row)
        self.unread = []

    def log(self) -> None:
        """Write the means since the last log, averaged over ranks; DivergedError when too many steps were skipped."""
        self.read()
        s, steps = self.s, self.s.step - self.started_at
        values = self._over_ranks({name: sum(v) / len(v) for name, v in self.since_log.items()})
        seconds = max(time.perf_counter() - self.started_s - self.elsewhere_s, 1e-9)
        waited = s.waited_s() - self.wait_s
        rate = steps * s.config.data.batch_size / seconds
        rates = {f"lr_{phase.name}": phase.optimizer.param_groups[0]["lr"] for phase in s.phases}
        speed = {"images_per_s": rate, "step_ms": 1e3 * seconds / steps, "data_wait": waited / seconds}
        self.intervals.append(speed)
        where = {"epoch": s.plan.epoch_at(s.step)}
        s.tracker.event("train", s.step, {**values, **rates, **where, **speed}, scalars="train")
        losses = "  ".join(f"{name[5:]} {value:.4g}" for name, value in values.items() if name.startswith("loss_"))
        s.tracker.say(
            progress_line(
                s.step,
                s.steps,
                losses=losses,
                rate=rate,
                wait=waited / seconds,
                seconds_left=(s.steps - s.step) * seconds / steps,
            )
        )
        skips = int(sum(sum(v) for k, v in self.since_log.items() if k.startswith("skipped_")))
        if skips:
            s.tracker.warn(
                "skipped steps",
                f"{skips} of the {steps} steps before step {s.step} had a gradient that "
                "was not finite and were skipped",
                s.step,
            )
        self._give_up_if_diverged()
        self.since_log = {}
        self.start()

    def bench(self) -> dict[str, float]:
        """Medians over the logging intervals of this process: images/s, ms a step, share of time waiting for data.

        The first interval, in which caches are cold and kernels are chosen, is left out where there is another.
        """
        chosen = self.intervals[1:] or self.intervals
        return {name: statistics.median(one[name] for one in chosen) for name in chosen[0]} if chosen else {}

    def end_epoch(self) -> None:
        """Tell the pipeline the epoch's means, equal on all ranks, and pass on what it changed.

        They are over the steps whose number was finite; NaN where none was.
        """
        self.read()
        counts = self.epoch_counts
        means = {name: total / counts[name] if counts[name] else math.nan for name, total in self.epoch_sums.items()}
        for message in self.s.pipeline.on_epoch_end(self._over_ranks(means)):
            self.s.tracker.say(message)
            self.s.tracker.event("note", self.s.step, {"message": message})
        self.epoch_sums, self.epoch_counts = {}, {}

    def _over_ranks(self, values: dict[str, float]) -> dict[str, float]:
        if self.s.world == 1 or not values:
            return values
        stacked = torch.tensor(list(values.values()), dtype=torch.float32, device=self.s.device)
        dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.s.world).tolist(), strict=True))

    def _give_up_if_diverged(self) -> None:
        """Gradients are averaged over ranks, so every rank counts the same skips and gives up together."""
        worst, tolerated = self.worst_in_a_row, self.s.config.loop.max_skips
        if worst > tolerated and not (self.s.scaler.is_enabled() and self.s.scaler.get_scale() > 1):
            raise DivergedError(
                f"{worst} steps in a row gave a gradient that is not finite (loop.max_skips {tolerated}), last at step "
                f"{self.s.step}: lower optimizer.lr, set loop.clip_norm, or use loop.precision no"
            )
