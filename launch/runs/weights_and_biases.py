"""Curves and pictures of a run sent to Weights & Biases, through accelerate's tracker."""

import importlib.util
import uuid
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from quell.configs.errors import MachineError
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.mappings import Settings


class AccelerateTrackers:
    """What `Tracker.also` sends a run's curves and pictures to: the trackers that accelerate has started.

    Weights & Biases ignores what is sent for an earlier step than the last, so nothing may be sent later than it came.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    def curves(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step."""
        self._accelerator.log(values, step=step)

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3), to every tracker that takes pictures."""
        for tracker in self._accelerator.trackers:
            if hasattr(tracker, "log_images"):
                tracker.log_images({name: [picture_HWC]}, step=step)


def start(accelerator: Accelerator, project: str, config: Settings, run_dir: Path) -> AccelerateTrackers:
    """Where to send a run's curves and pictures: Weights & Biases, or with $WANDB_MODE=offline RUN/wandb.

    All starts of a run are one run there: its id is kept in the run folder.

    Raises:
        MachineError: The package wandb is not installed.
    """
    require()
    accelerator.log_with = filter_trackers(["wandb"])
    options: dict[str, object] = {}
    if accelerator.is_main_process:
        options = {"dir": str(run_dir), "name": run_dir.name, "id": _run_id(run_dir), "resume": "allow"}
    accelerator.init_trackers(project, config=config, init_kwargs={"wandb": options})
    return AccelerateTrackers(accelerator)


def require() -> None:
    """MachineError unless the package wandb is installed."""
    if importlib.util.find_spec("wandb") is None:
        raise MachineError(
            "tracking.wandb_project is set, but wandb is not installed: pip install wandb, or set it to null"
        )


def _run_id(run_dir: Path) -> str:
    """The run's id at Weights & Biases, made up at its first start."""
    file = run_dir / "wandb" / "quell_run_id"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    identifier = uuid.uuid4().hex[:16]
    write_atomically(file, identifier + "\n")
    return identifier
