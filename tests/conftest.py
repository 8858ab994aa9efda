"""Fixtures of all tests: the real images, commands in real processes, and a check that none is left running."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is imported: with more threads than cores, two test workers slow each other down, and the result of a sum
# over several threads varies from run to run.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import psutil
import pytest
import torch

from quell.configs.support.paths import ROOT
from tests.support import commands
from tests.support.commands import Command, CommandResult

if TYPE_CHECKING:
    from tests.support.train_each import WorkerPair

commands.mark_this_process()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start background jobs so, and every process inherits it: the tests of Ctrl-C could not press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the project."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; skips the test on machines that do not have it."""
    folder = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real images on this machine: set QUELL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def command() -> Command:
    """Run a command in the project root: `command([...], timeout_s=600, code=0, env={...}) -> CommandResult`."""
    return commands.run


@pytest.fixture(scope="session")
def torchrun() -> Command:
    """Run a script in several processes on CPU: `torchrun([script, ...], processes=2, ...) -> CommandResult`."""

    def run(arguments: Sequence[object], *, processes: int = 2, **options: Any) -> CommandResult:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
        return commands.run([sys.executable, *launcher, *arguments], **options)

    return run


@pytest.fixture(scope="session")
def worker_pair(torchrun: Command, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[WorkerPair]":
    """Two processes on CPU, started once for `train_each(jobs, worker_pair)` in all tests of `xdist_group("pair")`."""
    from tests.support.train_each import WorkerPair

    pair = WorkerPair(torchrun, tmp_path_factory.mktemp("pair"))
    yield pair
    pair.close()


@pytest.fixture(scope="session", autouse=True)
def _no_processes_left_running() -> Iterator[None]:
    """Fail at the end of the session if tests left processes running, and kill those."""
    yield
    _, left = psutil.wait_procs(commands.marked_processes(), timeout=120)  # some may still be shutting down
    command_lines = [commands.command_line(process) for process in left]
    commands.kill(left)
    assert not command_lines, "tests left processes running: " + "; ".join(command_lines)
