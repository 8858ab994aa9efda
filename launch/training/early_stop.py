"""Ending a run that no longer improves."""

from dataclasses import dataclass, field

from pipelines.base import State


@dataclass
class EarlyStop:
    """Ends a run after `patience` evaluations in a row without a better metric; never, where that is None."""

    patience: int | None
    higher_is_better: bool
    state: State = field(default_factory=lambda: {"best": None, "waited": 0})

    @property
    def is_due(self) -> bool:
        """Whether the run has waited long enough."""
        return self.patience is not None and int(self.state["waited"]) >= self.patience

    def update(self, value: float) -> None:
        """Record the metric of an evaluation."""
        best = self.state["best"]
        if best is None or (value > best if self.higher_is_better else value < best):
            self.state.update(best=value, waited=0)
        else:
            self.state["waited"] += 1
