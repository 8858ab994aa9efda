"""The learning rate as a pure function of the step, and what follows the metric of evaluations: plateau, early stop."""

import math
from dataclasses import dataclass, field
from functools import partial

from quell.configs.metric_names import cost
from quell.configs.schema import ScheduleConfig
from quell.pipelines.base import State


def factor(config: ScheduleConfig, *, step: int, steps: int, epoch: float, epochs: float, lr: float) -> float:
    """The learning rate of a step, as a factor of the peak rate.

    Warm-up rises linearly from 1/warmup_steps. Plateau is not a function of the step and contributes 1 here.

    Args:
        config: Which schedule.
        step: Optimizer steps taken so far.
        steps: Optimizer steps of the whole run.
        epoch: Epochs done so far, as a fraction.
        epochs: Epochs of the whole run.
        lr: Peak learning rate, of which `min_lr` is a fraction.
    """
    now = math.floor(epoch + 1e-9) if config.per == "epoch" else epoch
    value = 1.0
    if config.name == "cosine":
        share = min(now / (config.length_epochs or epochs), 1.0)
        low = min(config.min_lr / lr, 1.0)
        value = low + (1 - low) * (1 + math.cos(math.pi * share)) / 2
    elif config.name == "step":
        value = config.gamma ** math.floor(now / config.step_epochs + 1e-9)
    elif config.name == "linear":
        decay = config.decay_epochs or max(epochs - config.hold_epochs, 1e-9)
        value = 1 - min(max(now - config.hold_epochs, 0.0) / decay, 1.0)
    warm = min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps else 1.0
    return value * warm


@dataclass
class Plateau:
    """The only schedule with a state: falls by gamma after `patience` evaluations without a better metric."""

    config: ScheduleConfig
    metric: str
    state: State = field(default_factory=lambda: {"factor": 1.0, "best": None, "waited": 0})

    def forget(self) -> None:
        """Wait anew for a better value, as of another metric; the factor stays."""
        self.state = {**self.state, "best": None, "waited": 0}

    def factor(self, lr: float) -> float:
        """Factor of the peak learning rate `lr`, never below `min_lr`."""
        return max(self.state["factor"], min(self.config.min_lr / lr, 1.0))

    def update(self, value: float) -> None:
        """Record the metric of an evaluation."""
        if self.config.name != "plateau":
            return
        best = self.state["best"]
        if best is None or cost(self.metric, value) < cost(self.metric, best):
            self.state.update(best=value, waited=0)
            return
        self.state["waited"] += 1
        if self.state["waited"] > self.config.patience:
            self.state.update(factor=self.state["factor"] * self.config.gamma, waited=0)


@dataclass
class EarlyStop:
    """Ends a run after `patience` evaluations in a row without a better metric; never, where that is None.

    It also knows which evaluations are the best so far, by the same numbers on all ranks, so that all save together.
    """

    patience: int | None
    metric: str
    min_delta: float = 0.0
    """How much better an evaluation has to be for the waiting to begin anew."""
    keep_best: int = 1
    """How many of the best evaluations are kept."""
    state: State = field(default_factory=lambda: {"best": None, "waited": 0})
    is_among_best: bool = False
    """Whether the last evaluation is one of the best so far; the earlier of equal ones is."""

    def forget(self) -> None:
        """Begin anew, as for another metric."""
        self.state = {"best": None, "waited": 0}

    @property
    def is_due(self) -> bool:
        """Whether the run has waited long enough."""
        return self.patience is not None and int(self.state["waited"]) >= self.patience

    def update(self, value: float) -> None:
        """Record the metric of an evaluation."""
        best, of_value = self.state["best"], cost(self.metric, value)
        is_number = math.isfinite(value)
        if is_number and (best is None or cost(self.metric, best) - of_value > self.min_delta):
            self.state.update(best=value, waited=0)
        else:
            self.state["waited"] += 1
        kept: list[float] = self.state.get("kept", [])
        not_worse = sum(cost(self.metric, other) <= of_value for other in kept)
        self.is_among_best = is_number and not_worse < self.keep_best
        if self.is_among_best:
            self.state["kept"] = sorted([*kept, value], key=partial(cost, self.metric))[: self.keep_best]
