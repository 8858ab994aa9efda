"""Numbers of a run sent to Weights & Biases, through accelerate's tracker."""

import importlib.util
import uuid
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from configs.errors import MachineError
from configs.support.atomic_files import write_atomically
from configs.support.mappings import Settings


def start(
    accelerator: Accelerator, project: str, config: Settings, run_dir: Path
) -> Callable[[dict[str, float], int], None]:
    """A function that sends numbers of a step to Weights & Biases, or with $WANDB_MODE=offline to RUN/wandb.

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
    return lambda values, step: accelerator.log(values, step=step)


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
