"""What all tests share: one thread, the real data, real processes, and nobody left behind."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch is imported: two test workers on two cores are slower with more threads than cores, and a sum over
# several threads is not the same number every time.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import psutil
import pytest
import torch

if TYPE_CHECKING:
    from tests.support.train_each import Pair

ROOT = Path(__file__).resolve().parent.parent
"""The project's root: commands run here."""

PATIENCE_S = 600.0
"""How long a command may take that takes seconds on an idle machine."""

MARK = "QUELL_TEST_PROCESS"
"""Environment variable by which the processes of one test worker are found again, orphans too."""

OTHER_LAUNCHES = (
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
"""Prefixes of variables by which a surrounding launcher would join or disturb the processes a test starts."""

os.environ[MARK] = uuid.uuid4().hex
torch.set_num_threads(1)


@dataclass(frozen=True)
class Finished:
    """A command that ended: what it was, its exit code (negative: the signal), and what it printed."""

    command: str
    code: int
    output: str

    def tail(self, lines: int = 40) -> str:
        """The first and the last lines of the output, for messages: the first error and the last word."""
        printed = self.output.splitlines()
        if len(printed) <= 2 * lines:
            return self.output.rstrip()
        return "\n".join([*printed[:lines], f"... {len(printed) - 2 * lines} lines ...", *printed[-lines:]])


Command = Callable[..., Finished]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; skips where this machine does not have it."""
    folder = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real images here: set QUELL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def command() -> Command:
    """Run a command in the project's root: `command([...], timeout_s=600, code=0, env={...}) -> Finished`."""
    return _run


@pytest.fixture(scope="session")
def torchrun() -> Command:
    """Run a script as real processes on CPU: `torchrun([script, ...], processes=2, timeout_s=600) -> Finished`."""

    def run(arguments: Sequence[object], *, processes: int = 2, **options: object) -> Finished:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
        return _run([sys.executable, *launcher, *arguments], **options)  # type: ignore[arg-type]

    return run


@pytest.fixture(scope="session")
def pair(torchrun: Command, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Pair]":
    """Two processes on CPU that stay, for `train_each(items, pair)`; its tests are one group, `xdist_group("pair")`."""
    from tests.support.train_each import Pair

    both = Pair(torchrun, tmp_path_factory.mktemp("pair"))
    yield both
    both.close()


@pytest.fixture(scope="session", autouse=True)
def _nobody_left_behind() -> Iterator[None]:
    """Fail, at the end, when a test left a process running; and end it."""
    yield
    _, left = psutil.wait_procs(_marked(), timeout=120)  # one that was told to end may still be on its way
    commands = [_line(process) for process in left]
    _kill(left)
    assert not commands, "tests left processes running: " + "; ".join(commands)


def _run(
    arguments: Sequence[object],
    *,
    timeout_s: float = PATIENCE_S,
    code: int | None = 0,
    env: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> Finished:
    """Run to the end and check the exit code (None: any); on timeout kill all it started and say what it was doing."""
    words = [str(argument) for argument in arguments]
    line = " ".join(words)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(OTHER_LAUNCHES)}
    clean |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **(env or {})}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=clean,
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
        _kill(_family(process.pid))
        output, _ = process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        finished = Finished(line, -signal.SIGKILL, output)
        pytest.fail(f"not finished after {timeout_s:g} s: {line}\n{finished.tail()}", pytrace=False)
    finished = Finished(line, process.returncode, output)
    if code is not None and finished.code != code:
        pytest.fail(f"exit code {finished.code} instead of {code}: {line}\n{finished.tail()}", pytrace=False)
    return finished


def _family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; torchrun's workers lead sessions of their own: a process group is not enough."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _marked() -> list[psutil.Process]:
    """Processes that this test worker started, directly or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == os.environ[MARK]:
                found.append(process)
        except psutil.Error:
            continue
    # multiprocessing keeps this helper until its parent ends, by design
    return [process for process in found if "resource_tracker" not in _line(process)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=10)
