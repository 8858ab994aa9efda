"""Running means of what the steps log, copied from the device only when they are needed."""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from quell.pipelines.base import State


@dataclass(frozen=True)
class Interval:
    """What happened between two log lines."""

    means: dict[str, float]
    """Mean of every logged number over the interval's steps and all ranks."""
    steps: int
    skipped: int
    """Steps of this interval that a phase skipped because its gradient was not finite."""
    seconds: float
    """Time spent training; evaluation and saving are left out."""
    waited_s: float
    """Part of it that the training thread waited for data."""

    def speed(self, batch_size: int) -> dict[str, float]:
        """Images per second, milliseconds per step, and the share of time spent waiting for data."""
        return {
            "images_per_s": self.steps * batch_size / self.seconds,
            "step_ms": 1e3 * self.seconds / self.steps,
            "data_wait": self.waited_s / self.seconds,
        }


class MetricLog:
    """Collects the numbers of every step on the device, and copies them all at once.

    That happens to log, to close an epoch, and for a checkpoint. Sums are accumulated on the host in the order of the
    steps, so that they are the same bit for bit wherever the copying was interrupted.
    """

    def __init__(self, device: torch.device, *, world: int = 1) -> None:
        self.worst_skip_streak = 0
        """Most steps in a row that were skipped so far."""
        self._device, self._world = device, world
        self._on_device: list[dict[str, Tensor]] = []
        self._interval: dict[str, list[float]] = {}
        self._epoch_sums: dict[str, float] = {}
        self._epoch_counts: dict[str, int] = {}
        self._skip_streak = 0
        self.start(step=0, waited_s=0.0)

    def start(self, *, step: int, waited_s: float) -> None:
        """Begin an interval: time starts now.

        Args:
            step: Optimizer steps taken so far.
            waited_s: Seconds the training thread has waited for data so far.
        """
        self._started_s, self._started_step, self._started_waited_s = time.perf_counter(), step, waited_s
        self._paused_s = 0.0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside the block (evaluating, saving) does not count as training time."""
        began = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - began

    def add(self, values: dict[str, Tensor]) -> None:
        """Take one step's scalars; nothing is computed, nothing copied to the host."""
        self._on_device.append(values)

    def state(self) -> State:
        """This rank's sums over the current epoch, for a checkpoint."""
        self._copy_to_host()
        return {"sums": dict(self._epoch_sums), "counts": dict(self._epoch_counts), "in_a_row": self._skip_streak}

    def load(self, state: State) -> None:
        """Continue inside an epoch from what `state` returned."""
        self._epoch_sums, self._epoch_counts = dict(state["sums"]), dict(state["counts"])
        self._skip_streak = int(state["in_a_row"])

    def end_interval(self, *, step: int, waited_s: float) -> Interval:
        """The interval since `start`; call that again to begin the next one. Collective.

        Args:
            step: Optimizer steps taken so far.
            waited_s: Seconds the training thread has waited for data so far.
        """
        self._copy_to_host()
        means = self._over_ranks({name: sum(values) / len(values) for name, values in self._interval.items()})
        skipped = sum(sum(values) for name, values in self._interval.items() if name.startswith("skipped_"))
        interval = Interval(
            means=means,
            steps=step - self._started_step,
            skipped=int(skipped),
            seconds=max(time.perf_counter() - self._started_s - self._paused_s, 1e-9),
            waited_s=waited_s - self._started_waited_s,
        )
        self._interval = {}
        return interval

    def end_epoch(self) -> dict[str, float]:
        """Means over the epoch that ends here, equal on all ranks; the next epoch begins. Collective.

        They are taken over the steps whose number was finite; NaN where none was.
        """
        self._copy_to_host()
        counts = self._epoch_counts
        means = {name: total / counts[name] if counts[name] else math.nan for name, total in self._epoch_sums.items()}
        self._epoch_sums, self._epoch_counts = {}, {}
        return self._over_ranks(means)

    def _copy_to_host(self) -> None:
        """Copy the numbers of all steps so far in one transfer: each one alone would wait for the device."""
        if not self._on_device:
            return
        stacked = torch.stack([value.to(self._device) for values in self._on_device for value in values.values()])
        numbers = iter(stacked.tolist())
        for values in self._on_device:
            skipped = False
            for name in values:
                value = next(numbers)
                self._interval.setdefault(name, []).append(value)
                finite = math.isfinite(value)
                self._epoch_sums[name] = self._epoch_sums.get(name, 0.0) + (value if finite else 0.0)
                self._epoch_counts[name] = self._epoch_counts.get(name, 0) + finite
                skipped |= name.startswith("skipped_") and value > 0
            self._skip_streak = self._skip_streak + 1 if skipped else 0
            self.worst_skip_streak = max(self.worst_skip_streak, self._skip_streak)
        self._on_device = []

    def _over_ranks(self, values: dict[str, float]) -> dict[str, float]:
        if self._world == 1 or not values:
            return values
        stacked = torch.tensor(list(values.values()), dtype=torch.float32, device=self._device)
        dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self._world).tolist(), strict=True))


def median_speed(speeds: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the intervals of this process.

    The first one, in which caches are cold and kernels are chosen, is left out where there is another.
    """
    chosen = speeds[1:] or speeds
    return {name: statistics.median(speed[name] for speed in chosen) for name in chosen[0]} if chosen else {}
