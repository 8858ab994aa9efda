"""Questions and orders to SLURM, each with a time limit: its commands hang for minutes when the controller is down."""

import getpass
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from configs.errors import MachineError

TIMEOUT_S = 30
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
class Queued:
    """A job as SLURM knows it; ended ones stay known for some minutes."""

    state: str
    reason: str

    @property
    def active(self) -> bool:
        """Whether it waits, runs or is about to."""
        return self.state in ACTIVE


def call(*words: str) -> str:
    """Output of one of SLURM's commands; MachineError in one sentence when it is missing, silent or refuses."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise MachineError(
            f"{words[0]} is not installed here: run on a cluster's login node, or use --local or --dry-run"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"{words[0]} did not answer within {TIMEOUT_S} s: is SLURM's controller up?") from error
    if done.returncode:
        raise MachineError(f"{words[0]}: {reason(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def states() -> dict[str, Queued]:
    """This user's jobs by id (array members as `12_0`), with those that ended a short while ago."""
    found = {}
    for line in call("squeue", "-h", "-r", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%T|%r").splitlines():
        job, state, why = line.strip().split("|", 2)
        found[job] = Queued(state, why)
    return found


def check_room(wanted: int, max_jobs: int) -> None:
    """MachineError when so many jobs more would pass the site's limit or fill SLURM's queue.

    sbatch itself would wait for minutes at a full queue, with half of a chain submitted.
    """
    own = sum(job.active for job in states().values())
    if own + wanted > max_jobs:
        raise MachineError(
            f"{wanted} jobs more would make {own + wanted} of yours in the queue, and site.max_jobs is {max_jobs}: "
            "wait, or submit part of the stages with --only"
        )
    match = re.search(r"^MaxJobCount\s*=\s*(\d+)", call("scontrol", "show", "config"), re.MULTILINE)
    known = len(call("squeue", "-h", "-r", "-t", "all", "-o", "%i").splitlines())
    if match and known + wanted > int(match[1]):
        raise MachineError(
            f"the queue is full: SLURM keeps {known} jobs, {wanted} more would pass MaxJobCount={match[1]}: "
            "try again later"
        )


def release(jobs: Iterable[str]) -> None:
    """Let held jobs start."""
    if chosen := [job for job in jobs if job]:
        call("scontrol", "release", ",".join(chosen))


def cancel(jobs: Iterable[str]) -> None:
    """End jobs; ids that SLURM no longer knows are no problem."""
    if chosen := [job for job in jobs if job]:
        call("scancel", "-Q", *chosen)


def reason(text: str) -> str:
    """The sentence in what sbatch and its like print on stderr."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith('Try "')]
    last = lines[-1] if lines else ""
    return last.removeprefix("Batch job submission failed: ")
