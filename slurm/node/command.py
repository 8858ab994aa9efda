"""From a task to the command its processes run, once everything it takes from earlier stages is known."""

import sys
from pathlib import Path

from quell.configs.errors import QuellError
from quell.slurm.node import pick, records
from quell.slurm.stages.task import Task


def prepare(task: Task, job: str) -> list[str] | None:
    """The command of a task's processes; None for a pick, which needs none and is carried out here.

    Whatever goes wrong is recorded as the end of the task before it is raised.
    """
    try:
        if task.kind == "pick":
            records.append_event(task.folder, "end", job=job, code=0, reason=pick.choose(task))
            return None
        command = [sys.executable, *task.arguments, *pick.late_overrides(task)]
    except QuellError as error:
        records.append_event(task.folder, "end", job=job, code=error.exit_code, reason=str(error))
        raise
    Path(task.run_dir).mkdir(parents=True, exist_ok=True)
    return command
