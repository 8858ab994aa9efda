"""From a task to the command its processes run, once everything it takes from earlier stages is known."""

import sys
from collections.abc import Sequence
from pathlib import Path

from quell.configs.errors import QuellError
from quell.configs.source_code.files import ROOMS
from quell.slurm.node import pick, records
from quell.slurm.stages.task import Task


def from_code(arguments: Sequence[str], code: Path) -> list[str]:
    """Arguments of Python in which a script or module of the project is the one in the snapshot `code`.

    Stage files and tasks name them as in a checkout, `launch/train.py` or `-m shards.build`. In the snapshot, as where
    Quell is installed, they are modules of the package.
    """
    first, *rest = arguments
    if first == "-m" and rest:
        module, rest = rest[0], rest[1:]
        is_ours = module.partition(".")[0] in ROOMS and not (code / module.partition(".")[0]).exists()
        return ["-m", f"quell.{module}" if is_ours else module, *rest]
    if Path(first).parts[0] in ROOMS and (code / "quell" / first).is_file() and not (code / first).exists():
        return ["-m", "quell." + first.removesuffix(".py").replace("/", "."), *rest]
    return list(arguments)


def prepare(task: Task, job: str) -> list[str] | None:
    """The command of a task's processes; None for a pick, which needs none and is carried out here.

    Whatever goes wrong is recorded as the end of the task before it is raised.
    """
    try:
        if task.kind == "pick":
            records.append_event(task.folder, "end", job=job, code=0, reason=pick.choose(task))
            return None
        command = [sys.executable, *from_code(task.arguments, Path(task.code)), *pick.late_overrides(task)]
    except QuellError as error:
        records.append_event(task.folder, "end", job=job, code=error.exit_code, reason=str(error))
        raise
    Path(task.run_dir).mkdir(parents=True, exist_ok=True)
    return command
