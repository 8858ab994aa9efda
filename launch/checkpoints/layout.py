"""Names in a run's `checkpoints/`: `step-XXXXXXXX/`, and the hidden `.step-XXXXXXXX/` of one that is being written."""

import re
from pathlib import Path

META = "meta.json"
"""The last file of a checkpoint to be written: a folder that has it was written to its end."""

MODEL = "model.safetensors"
"""The weights of a shared model: a folder that holds them beside META is a checkpoint without a run around it."""

AVERAGE = "average"
"""The folder of the average of several checkpoints, which is none of a step and cannot be resumed."""

_NAME = re.compile(r"\.?step-(\d+)")


def folder_name(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(checkpoint: Path) -> int | None:
    """The step in a checkpoint's folder name; None for a folder with another name, such as a copy."""
    name = _NAME.fullmatch(checkpoint.name)
    return int(name[1]) if name else None


def is_checkpoint(path: Path) -> bool:
    """Whether a path means one checkpoint, even if it is damaged, rather than a run."""
    return (
        (path / META).is_file()
        or is_shared(path)
        or (path.is_dir() and step_of(path) is not None and not (path / "checkpoints").is_dir())
    )


def is_shared(path: Path) -> bool:
    """Whether a path is the folder of a shared model (launch/sharing/writing/), even if it is damaged."""
    return (path / MODEL).is_file()


def step_folders(folder: Path) -> list[Path]:
    """The folders named after a step in a run's `checkpoints/`, in the order of the steps, intact or not."""
    steps = {path: step_of(path) for path in folder.glob("step-*") if path.is_dir()}
    return sorted((path for path, step in steps.items() if step is not None), key=lambda path: steps[path] or 0)


def complete(folder: Path) -> list[Path]:
    """The checkpoints in a run's `checkpoints/` that were written to their end, oldest first."""
    return [path for path in step_folders(folder) if (path / META).is_file()]
