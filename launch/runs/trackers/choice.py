"""The trackers that a configuration asks for: whether their packages are installed, and starting them."""

import importlib.util
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs.errors import MachineError
from quell.configs.support.json_files import Record
from quell.configs.support.secrets import mask
from quell.configs.tracking import TrackerName, TrackingConfig
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend, TrackedRun
from quell.launch.runs.trackers.clearml import Clearml
from quell.launch.runs.trackers.comet import Comet
from quell.launch.runs.trackers.ledger import Ledger
from quell.launch.runs.trackers.mlflow import Mlflow, uri_of
from quell.launch.runs.trackers.relay import Relay
from quell.launch.runs.trackers.weights_and_biases import WeightsAndBiases

BACKENDS: dict[str, type[Backend]] = {"wandb": WeightsAndBiases, "mlflow": Mlflow, "comet": Comet, "clearml": Clearml}
"""Every tracker but TensorBoard, whose files the run writes itself (launch/runs/board.py)."""
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml", "clearml": "clearml"}
"""The package that each one needs."""
DATABASE_PACKAGES = ("sqlalchemy", "alembic")
"""What MLflow needs beside that to write to a database itself."""


class Relays:
    """Several trackers as one `Outlet` of a run's log (launch/runs/tracker.py)."""

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays = relays

    def curves(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step to all."""
        for relay in self._relays:
            relay.curves(values, step)

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3), to all."""
        for relay in self._relays:
            relay.picture(name, picture_HWC, step)

    def new_problems(self) -> list[tuple[str, str]]:
        """Names of trackers, and what has gone wrong there since the last call."""
        return [(relay.name, problem) for relay in self._relays for problem in relay.new_problems()]

    def close(self, patience_s: float, ending: Ending) -> None:
        """Have all send what is waiting, for at most this many seconds together, and end the run there."""
        deadline_s = time.monotonic() + patience_s
        for relay in self._relays:
            relay.end(ending)
        for relay in self._relays:
            relay.close(max(deadline_s - time.monotonic(), 0.0))


def chosen(tracking: TrackingConfig) -> tuple[TrackerName, ...]:
    """All trackers of a run, TensorBoard included."""
    if tracking.trackers is not None:
        return tracking.trackers
    names: tuple[TrackerName, ...] = ("tensorboard",) if tracking.tensorboard else ()
    return (*names, "wandb") if tracking.wandb_project else names


def require(tracking: TrackingConfig) -> None:
    """MachineError unless the packages of all trackers are installed."""
    for name in chosen(tracking):
        if name == "tensorboard":
            continue
        needed = [PACKAGES[name]]
        if name == "mlflow" and uri_of(tracking, Path()).startswith("sqlite:"):
            needed += DATABASE_PACKAGES
        if missing := [package for package in needed if not _is_installed(package)]:
            key = "tracking.trackers names" if tracking.trackers is not None else "tracking.wandb_project asks for"
            verb = "is" if len(missing) == 1 else "are"
            raise MachineError(
                f"{key} {name}, but {' and '.join(missing)} {verb} not installed: pip install 'quell[{name}]', or "
                "leave this tracker out"
            )


def start(run: TrackedRun, ledger: Ledger, events: Sequence[Record]) -> Relays | None:
    """Start the trackers of a run, each in a thread; None where it has none but TensorBoard.

    Args:
        run: What they are told.
        ledger: What the run folder remembers of them.
        events: The log of the run so far, from which they receive what they have missed.
    """
    names = [name for name in chosen(run.tracking) if name != "tensorboard"]
    if not names:
        return None
    log_file = RunFolder(run.run_dir).metrics_file
    return Relays([Relay(name, partial(_make, name, run, ledger), ledger, log_file, events) for name in names])


def _make(name: str, run: TrackedRun, ledger: Ledger) -> Backend:
    """A tracker as it is to start now."""
    backend = BACKENDS[name]
    return backend(run, ledger.id_of(name), ledger.sent(name, offline=backend.is_offline(run)))


def without_secrets(value: Any) -> Any:
    """Nested settings with the credentials of URLs in them masked."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return mask(value) if isinstance(value, str) else value


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # else a folder of that name where the user is
