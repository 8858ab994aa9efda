"""Tasks -> sbatch scripts and jobs, through submitit."""

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from configs.errors import MachineError
from slurm.node.job import Job
from slurm.stages.schema import Condition, Site, Stage
from slurm.stages.task import Task
from slurm.submission import client

_DEAF = """sh -c 'trap "" USR1 USR2 TERM; exec "$@"' sh"""
"""Starts a program deaf to stop signals until it listens: one that comes while Python boots must not kill it."""


class _Executor(submitit.SlurmExecutor):
    """submitit's executor without its 0.2 s between submissions, and able to write scripts where SLURM is missing."""

    def __init__(self, folder: Path, python: str | None) -> None:
        super().__init__(folder, python=python)
        self._throttling = 0.0

    @classmethod
    def affinity(cls) -> int:
        return 2


def submit(
    name: str,
    tasks: Sequence[Task],
    stage: Stage,
    site: Site,
    *,
    root: Path,
    after: dict[str, Condition],
    hold: bool,
    title: str,
) -> list[str]:
    """Job ids of the tasks: a job array when there are several.

    `after` maps job ids to conditions; with `hold` the tasks wait besides until they are released. Raises
    MachineError with SLURM's reason when it refuses.
    """
    executor = _prepare(name, tasks, stage, site, root=root, after=after, hold=hold, title=title)
    try:
        # what submitit prints of a refusal is in its exception too
        with contextlib.redirect_stderr(io.StringIO()):
            jobs = executor.submit_array([Job(str(task.file)) for task in tasks])
    except FileNotFoundError as error:
        raise MachineError(
            f"{error.filename} is not installed here: run on a cluster's login node, or use --local or --dry-run"
        ) from error
    except (FailedJobError, FailedSubmissionError) as error:
        raise MachineError(f"SLURM refused stage '{name}': {client.reason(str(error))}") from error
    return [job.job_id for job in jobs]


def script(
    name: str,
    tasks: Sequence[Task],
    stage: Stage,
    site: Site,
    *,
    root: Path,
    after: dict[str, Condition],
    hold: bool,
    title: str,
) -> str:
    """The sbatch script that `submit` would hand in; SLURM need not be installed."""
    executor = _prepare(name, tasks, stage, site, root=root, after=after, hold=hold, title=title)
    if len(tasks) > 1:
        executor.parameters["map_count"] = len(tasks)
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def log_files(root: Path, stage: str, job: str) -> list[Path]:
    """What a job's ranks print, rank 0 first; names are submitit's."""
    found = (root / "logs" / stage / job).glob(f"{job}_*_log.out")
    return sorted(found, key=lambda file: int(file.name.split("_")[-2]))


def parameters(
    stage: Stage, site: Site, *, code: str, after: dict[str, Condition], hold: bool, title: str
) -> dict[str, Any]:
    """A stage's wishes in submitit's words."""
    wanted = stage.resources
    given = {
        "job_name": title, "time": wanted.time_min, "nodes": wanted.nodes, "ntasks_per_node": wanted.tasks,
        "cpus_per_task": wanted.cpus_per_task, "signal_delay_s": wanted.grace_s, "partition": wanted.partition,
        "account": wanted.account, "qos": wanted.qos, "constraint": wanted.constraint,
        "gpus_per_node": wanted.gpus_per_node or None, "array_parallelism": wanted.at_once or 256,
        "mem": f"{round(wanted.memory_gib * 1024)}MB" if wanted.memory_gib else None,
        "dependency": ",".join(f"{condition}:{job}" for job, condition in after.items()) or None,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None} | {
        "stderr_to_stdout": True,
        "setup": [*site.setup, f'export PYTHONPATH="{code}${{PYTHONPATH:+:$PYTHONPATH}}"'],
        "srun_args": ["--kill-on-bad-exit=1"],
        "additional_parameters": {
            "chdir": code, "requeue": True, "kill-on-invalid-dep": "yes", **({"hold": True} if hold else {}),
            **{key.replace("_", "-"): value for key, value in wanted.extra.items()},
        },
    }  # fmt: skip


def _prepare(
    name: str,
    tasks: Sequence[Task],
    stage: Stage,
    site: Site,
    *,
    root: Path,
    after: dict[str, Condition],
    hold: bool,
    title: str,
) -> _Executor:
    logging.getLogger("submitit").setLevel(logging.ERROR)
    python = site.python or ("python3" if site.container else None)
    executor = _Executor(root / "logs" / name / "%j", python)
    executor.python = " ".join(word for word in (_DEAF, site.container, executor.python) if word)
    executor.update_parameters(**parameters(stage, site, code=tasks[0].code, after=after, hold=hold, title=title))
    return executor
