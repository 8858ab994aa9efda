"""Tasks as sbatch scripts and jobs, through submitit."""

import contextlib
import io
import logging
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from quell.configs.errors import MachineError
from quell.configs.support.stop_signals import IGNORE_STOP_SIGNALS
from quell.slurm.node.job import Job
from quell.slurm.stages import extra_options
from quell.slurm.stages.plan import PlannedStage
from quell.slurm.stages.schema import Condition
from quell.slurm.stages.site import Site
from quell.slurm.stages.task import Task
from quell.slurm.submission import client, containers, options, setup_lines

_VARIABLE = re.compile(r"(\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\}))", re.ASCII)
_SRUN_CPUS = 'export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'
"""Since SLURM 22.05 srun does not take over sbatch's --cpus-per-task: where cores are bound, a task would get one."""

_UNLIMITED = 256
"""Members of a sweep that may run at the same time where the stage sets no limit; submitit's own default."""


@dataclass(frozen=True)
class JobRequest:
    """A stage as it is submitted: one job, or a job array if there are several tasks."""

    stage: PlannedStage
    tasks: tuple[Task, ...]
    """The tasks of the stage that have to run."""
    site: Site
    root: Path
    after: Mapping[str, Condition] = field(default_factory=dict)
    """Jobs to wait for, by id."""
    hold: bool = False
    """Whether the job also waits until it is released."""


class _Executor(submitit.SlurmExecutor):
    """submitit's executor, able to write scripts where SLURM is missing and without 0.2 s between submissions."""

    def __init__(self, folder: Path, python: str | None) -> None:
        super().__init__(folder, python=python)
        self._throttling = 0.0

    @classmethod
    def affinity(cls) -> int:
        return 2

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        """The script of submitit, without the wckey it always sets, and with variables in srun's options replaced."""
        wckey = self.parameters.get("additional_parameters", {}).get("wckey")
        lines = super()._make_submission_file_text(command, uid).split("\n")
        quoted = {shlex.quote(word): shell_word(word) for word in self.parameters["srun_args"] if "$" in word}
        for number, line in enumerate(lines):
            if line.startswith("srun "):
                for word, expanded in quoted.items():
                    line = line.replace(word, expanded, 1)
                lines[number] = line
        return "\n".join(line for line in lines if wckey or not line.startswith("#SBATCH --wckey="))


def submit(request: JobRequest) -> list[str]:
    """Submit a stage; the job id of each task.

    Raises:
        MachineError: With SLURM's reason for refusing it.
    """
    executor = _executor(request)
    try:
        # submitit prints the reason of a refusal, which is also in its exception
        with contextlib.redirect_stderr(io.StringIO()):
            jobs = executor.submit_array([Job(str(task.file)) for task in request.tasks])
    except FileNotFoundError as error:
        raise client.not_installed(str(error.filename)) from error
    except (FailedJobError, FailedSubmissionError) as error:
        message = client.error_message(str(error))
        raise MachineError(f"SLURM refused stage '{request.stage.name}': {message}") from error
    return [job.job_id for job in jobs]


def script(request: JobRequest) -> str:
    """The sbatch script that `submit` would submit; SLURM need not be installed."""
    executor = _executor(request)
    if len(request.tasks) > 1:
        executor.parameters["map_count"] = len(request.tasks)
    return str(executor._make_submission_file_text(executor._submitit_command_str, ""))


def shell_word(word: str) -> str:
    """A word quoted for the shell, which still replaces `$NAME` and `${NAME}` in it, and nothing else."""
    if not _VARIABLE.search(word):
        return shlex.quote(word)
    parts = _VARIABLE.split(word)  # text, variable, text, ...
    quoted = [part if i % 2 else re.sub(r'(["\\`$])', r"\\\1", part) for i, part in enumerate(parts)]
    return f'"{"".join(quoted)}"'


def _executor(request: JobRequest) -> _Executor:
    logging.getLogger("submitit").setLevel(logging.ERROR)
    site = request.site
    container = site.container
    python = site.python or ("python3" if container else None)
    executor = _Executor(request.root / "logs" / request.stage.name / "%j", python)
    words = [*(containers.prefix(container, request.stage, request.root) if container else []), executor.python]
    executor.python = " ".join([IGNORE_STOP_SIGNALS, *map(shell_word, words)])
    executor.update_parameters(**_parameters(request))
    return executor


def _parameters(request: JobRequest) -> dict[str, Any]:
    """The request in submitit's terms."""
    site, resources, code = request.site, request.stage.settings.resources, request.tasks[0].code
    optional = {
        "partition": resources.partition, "account": resources.account, "qos": resources.qos,
        "constraint": resources.constraint,
        "dependency": ",".join(f"{condition}:{job}" for job, condition in request.after.items()) or None,
    }  # fmt: skip
    extra = extra_options.as_flags(resources.extra)
    requeues = "no-requeue" not in extra and request.stage.settings.continuation is None
    sbatch_options = {
        "chdir": code, ("requeue" if requeues else "no-requeue"): True, "kill-on-invalid-dep": "yes",
        **({"hold": True} if request.hold else {}), **options.sbatch_options(site, resources), **extra,
    }  # fmt: skip
    return {
        "job_name": request.stage.job_name,
        "time": resources.time_min,
        "nodes": resources.nodes,
        "ntasks_per_node": resources.tasks,
        "cpus_per_task": resources.cpus_per_task,
        "signal_delay_s": resources.grace_s,
        "array_parallelism": resources.at_once or _UNLIMITED,
        "stderr_to_stdout": True,
        "setup": [
            *setup_lines.script_lines(site.setup),
            *options.script_lines(site),
            _SRUN_CPUS,
            f'export PYTHONPATH={shlex.quote(code)}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        ],
        "srun_args": [
            "--kill-on-bad-exit=1",
            *resources.srun,
            *(containers.srun_options(site.container, request.stage, request.root) if site.container else []),
        ],
        "additional_parameters": sbatch_options,
        **{key: value for key, value in optional.items() if value is not None},
    }
