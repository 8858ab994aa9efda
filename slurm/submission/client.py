"""SLURM's command-line tools, each with a time limit: they hang for minutes when the controller is down."""

import getpass
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from quell.configs.errors import MachineError

TIMEOUT_S = 30
_FORMAT = "%i|%T|%N|%M|%S|%r"
"""Id, state, nodes, elapsed time, start and reason; the last may contain anything."""
ACTIVE = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "REQUEUED",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
)


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue shows it; jobs that have ended stay there for some minutes."""

    state: str
    reason: str
    node: str = ""
    """The nodes it has, as SLURM abbreviates them."""
    elapsed_s: int | None = None
    """Seconds since it started."""
    expected_start: str = ""
    """When SLURM expects to start it; empty where it does not say."""

    @property
    def active(self) -> bool:
        """Whether it has not ended yet."""
        return self.state in ACTIVE

    @property
    def held(self) -> bool:
        """Whether it waits to be released: its submission was interrupted, or SLURM could not start it on a node."""
        return self.reason.replace(" ", "_") in ("JobHeldUser", "launch_failed_requeued_held")


def call(*command: str) -> str:
    """The output of a SLURM command.

    Raises:
        MachineError: It is not installed, does not answer, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise not_installed(command[0]) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{command[0]} did not answer within {TIMEOUT_S} s: is SLURM's controller up?") from error
    if done.returncode:
        raise MachineError(f"{command[0]}: {error_message(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def not_installed(program: str) -> MachineError:
    """The error for a missing SLURM command."""
    return MachineError(f"{program} is not installed here: run on a cluster's login node, or use --local or --dry-run")


def queue() -> dict[str, QueuedJob]:
    """This user's jobs by id (array members as `12_0`), including those that have ended recently."""
    jobs = {}
    for line in call("squeue", "-h", "-r", "-t", "all", "-u", getpass.getuser(), "-o", _FORMAT).splitlines():
        job, state, node, elapsed, start, reason = line.strip().split("|", 5)
        expected_start = start if state == "PENDING" and start[:1].isdigit() else ""
        jobs[job] = QueuedJob(state, reason, node, _seconds(elapsed), expected_start)
    return jobs


def _seconds(elapsed: str) -> int | None:
    """Seconds in squeue's days-hours:minutes:seconds; None for anything else."""
    days, dash, clock = elapsed.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, *([days] if dash else [])]):
        return None
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    return total + (86400 * int(days) if dash else 0)


def check_limits(count: int, max_jobs: int) -> None:
    """Raise MachineError if `count` more jobs would exceed the site's limit or fill SLURM's queue.

    sbatch itself would wait for minutes at a full queue, with half of the stages submitted.
    """
    active = sum(job.active for job in queue().values())
    if active + count > max_jobs:
        raise MachineError(
            f"submitting {count} jobs would exceed site.max_jobs ({max_jobs}): you have {active} in the queue; wait, "
            "or submit fewer stages with --only"
        )
    limit = re.search(r"^MaxJobCount\s*=\s*(\d+)", call("scontrol", "show", "config"), re.MULTILINE)
    known = len(call("squeue", "-h", "-r", "-t", "all", "-o", "%i").splitlines())
    if limit and known + count > int(limit[1]):
        raise MachineError(
            f"the queue is full: submitting {count} jobs would exceed SLURM's MaxJobCount={limit[1]}, and it holds "
            f"{known}; try again later"
        )


def release(jobs: Iterable[str]) -> None:
    """Let held jobs start."""
    if ids := [job for job in jobs if job]:
        call("scontrol", "release", ",".join(ids))


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; ids that SLURM no longer knows are ignored."""
    if ids := [job for job in jobs if job]:
        call("scancel", "-Q", *ids)


def error_message(stderr: str) -> str:
    """The message in what sbatch and its like print on stderr."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith('Try "')]
    last = lines[-1] if lines else ""
    return last.removeprefix("Batch job submission failed: ")
