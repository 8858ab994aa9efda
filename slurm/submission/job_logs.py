"""What a job's tasks printed: the files, and the line that says why a job died before the launcher could record it."""

import os
import re
from pathlib import Path

_TAIL_BYTES = 64_000
_SETUP = re.compile(r"quell: (the site's setup failed .*)")
_CONSEQUENCE = re.compile(
    r"(srun: (error: .*([Ee]xited with exit code|Killed|Terminated|Aborted)|Terminating|Job step|Force|launch/slurm)"
    r"|slurmstepd: error: (\*\*\*|spank:|Failed to invoke spank|pyxis: (couldn't start|printing|container start)))"
    r"|submitit |quell: "
)
"""Lines that follow from an error which another line names."""
_REQUEUED = re.compile(r"quell: .*requeu")
_SLURM = re.compile(r"(slurmstepd|srun|slurmd)[:-]")
_CAUSES = (
    re.compile(r"oom[-_ ]kill|Out Of Memory", re.IGNORECASE),
    re.compile(r"\[ERROR\]|FATAL"),
    re.compile(r"No such file|not found|No module named|ImportError|Permission denied|cannot open|Cannot allocate"),
    re.compile(r"error", re.IGNORECASE),
)
"""What such a line contains, the most telling first."""


def files(root: Path, stage: str, job: str) -> dict[int, Path]:
    """The log of each rank of a job, by submitit's file names; rank 0's has the batch script's output as well."""
    logs = (root / "logs" / stage / job).glob(f"{job}_*_log.out")
    return dict(sorted((int(file.name.split("_")[-2]), file) for file in logs))


def cause(root: Path, stage: str, job: str, rank: int = 0, *, was_running: bool = False) -> str:
    """The line of a job's log that says best why its last start died; empty where there is none.

    For jobs that ended before the launcher's own process could record anything: a setup command that failed, a wrong
    python, an image that cannot be opened, no memory. With `was_running` only SLURM's own lines count, for a run may
    have printed anything.
    """
    file = files(root, stage, job).get(rank)
    lines = _last_lines(file) if file else []
    earlier = max((number for number, line in enumerate(lines) if _REQUEUED.match(line)), default=-1)
    lines = [line for line in lines[earlier + 1 :] if not was_running or _SLURM.match(line)]
    for number in range(len(lines) - 1, -1, -1):
        if failed := _SETUP.match(lines[number]):
            before = lines[number - 1] if number else ""
            return failed[1] + (f" ({_shortened(before)})" if before else "")
    telling = [line for line in lines if not _CONSEQUENCE.match(line)]
    for pattern in _CAUSES:
        if found := [line for line in telling if pattern.search(line)]:
            return _shortened(found[-1])
    return _shortened(telling[-1]) if telling else ""


def _last_lines(file: Path) -> list[str]:
    """The last lines of a file that are not empty."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - _TAIL_BYTES), os.SEEK_SET)
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _shortened(line: str) -> str:
    return " ".join(line.split())[:300]
