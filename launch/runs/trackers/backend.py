"""What every tracker can do with a run; the trackers themselves are accelerate's."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from quell.configs.support.mappings import Settings
from quell.configs.tracking import TrackingConfig
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.ledger import Steps


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run."""

    name: str
    run_dir: Path
    tracking: TrackingConfig
    config: Settings
    """The complete configuration and, under `run`, the commit and the number of processes; without secrets."""


class Backend(ABC):
    """One tracker of one run, from one start to its end or to a failure, after which another instance takes over.

    All calls come from one thread.

    Args:
        run: What it is told.
        identity: The id that the run has there; None where it has not been there.
        known: What it has been sent.
    """

    accelerate_name: str
    """How accelerate calls it."""
    keeps_at_once = True
    """Whether a point is safe once it was sent; False where a kill loses all since the start."""

    def __init__(self, run: TrackedRun, identity: str | None, known: Steps) -> None:
        self.run, self.identity, self.known = run, identity, known
        self.tracker: Any = None

    @abstractmethod
    def start(self) -> str:
        """Start or continue the run there; its id. May take as long as the network does."""

    @classmethod
    def is_offline(cls, run: TrackedRun) -> bool:
        """Whether it writes to the run folder, for somebody to send it later."""
        return run.tracking.offline

    def sent(self) -> Steps:
        """What it holds already, once it has started."""
        return self.known

    def configure(self) -> None:
        """Send the configuration."""
        self.tracker.store_init_configuration(self.run.config)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step."""
        self.tracker.log(values, step=step)

    @abstractmethod
    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3)."""

    @abstractmethod
    def finish(self, ending: Ending) -> None:
        """Send what is left, and end the run there."""

    def begin(self, project: str, **options: object) -> None:
        """Create accelerate's tracker, and start it."""
        self.tracker = LOGGER_TYPE_TO_CLASS[self.accelerate_name](project, **options)
        if hasattr(self.tracker, "start"):  # up to accelerate 1.8 it starts when it is created
            self.tracker.start()
