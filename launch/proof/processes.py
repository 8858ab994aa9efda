"""Trainings in processes of their own: the product's commands, run to their end in bounded time."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from quell.configs.support.paths import ROOT
from quell.launch.checkpoints.layout import folder_name
from quell.launch.checkpoints.store import WEIGHTS
from quell.launch.runs.folder import RunFolder

TIMEOUT_S = 150.0
GRACE_S = 40.0
"""What torchrun and accelerate may take to end their processes; after 30 s they kill them."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    seconds: float

    def last_line(self) -> str:
        """The last sentence of an error, otherwise the last line."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        errors = [line for line in lines if "error: " in line]
        return (errors or lines or ["nothing was printed"])[-1].strip()


def torchrun(processes: int, *words: object) -> Ended:
    """Run a module of this project in several processes on this machine."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", processes, "-m"]
    return run("-m", *launcher, *words)


def start(*words: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start Python with these arguments in the project's folder."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(*words: object, env: dict[str, str] | None = None, timeout_s: float | None = None) -> Ended:
    """Start it and wait for its end, by default TIMEOUT_S; TimeoutError where it does not end."""
    began, limit_s = time.monotonic(), timeout_s or TIMEOUT_S
    process = start(*words, env=env)
    try:
        output, _ = process.communicate(timeout=limit_s)
    except BaseException as error:
        _end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimeoutError(f"not finished after {limit_s:.0f} s: {' '.join(map(str, words))}") from error
        raise
    return Ended(process.returncode, output, time.monotonic() - began)


def weights_of(run: Path, step: int) -> dict[str, Tensor]:
    """What a training in a process of its own had learned at a step whose checkpoint it kept."""
    return load_file(RunFolder(run).checkpoints / folder_name(step) / WEIGHTS)


def _end(process: subprocess.Popen[str]) -> None:
    """Let a launcher end its processes, which a kill would leave behind."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
