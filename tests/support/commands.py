"""Run commands in processes of their own, and end every process that a test leaves behind."""

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from quell.configs.support.paths import ROOT

TIMEOUT_S = 600.0
"""Timeout of a command that takes seconds on an idle machine."""

MARKER = "QUELL_TEST_PROCESS"
"""Environment variable that all processes of a test worker inherit, so that orphans can be found as well."""

LAUNCHER_VARIABLES = (
    "ACCELERATE_",
    "GROUP_",
    "LOCAL_",
    "MASTER_",
    "PET_",
    "RANK",
    "ROLE_",
    "TORCHELASTIC_",
    "WORLD_",
    "SLURM_JOB",
    "SLURM_LOCALID",
    "SLURM_N",
    "SLURM_PROCID",
    "SLURM_STEP",
    "SLURM_TASK",
)
"""Prefixes of the variables through which a launcher around the tests would interfere with the processes they start."""


@dataclass(frozen=True)
class CommandResult:
    """A command that has ended, its exit code (negative: the signal that killed it), and everything it printed."""

    command: str
    code: int
    output: str

    def excerpt(self, lines: int = 40) -> str:
        """The first and the last lines of the output: the first error is at the start, the outcome at the end."""
        printed = self.output.splitlines()
        if len(printed) <= 2 * lines:
            return self.output.rstrip()
        return "\n".join([*printed[:lines], f"... {len(printed) - 2 * lines} lines ...", *printed[-lines:]])


Command = Callable[..., CommandResult]
"""Type of the fixtures `command` and `torchrun`."""


def mark_this_process() -> None:
    """Set the marker that all processes started from now on inherit."""
    os.environ[MARKER] = uuid.uuid4().hex


def run(
    arguments: Sequence[object],
    *,
    timeout_s: float = TIMEOUT_S,
    code: int | None = 0,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> CommandResult:
    """Run a command to its end, on CPU; fail when it times out or its exit code is not `code` (None: any)."""
    words = [str(argument) for argument in arguments]
    command = " ".join(words)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHER_VARIABLES)}
    on_cpu = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={**inherited, **on_cpu, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except BaseException as error:
        kill(_process_tree(process.pid))
        output, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        result = CommandResult(command, -signal.SIGKILL, output)
        pytest.fail(f"not finished after {timeout_s:g} s: {command}\n{result.excerpt()}", pytrace=False)
    result = CommandResult(command, process.returncode, output)
    if code is not None and result.code != code:
        pytest.fail(f"expected exit code {code}, got {result.code}: {command}\n{result.excerpt()}", pytrace=False)
    return result


def _process_tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; a process group would miss torchrun's workers, which start new sessions."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked_processes() -> list[psutil.Process]:
    """Processes that this test worker started, directly or not."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARKER) == os.environ[MARKER]:
                processes.append(process)
        except psutil.Error:
            continue
    # multiprocessing keeps its resource tracker until the parent exits, by design
    return [process for process in processes if "resource_tracker" not in command_line(process)]


def command_line(process: psutil.Process) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(processes: list[psutil.Process]) -> None:
    """Kill the processes and wait until they are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
