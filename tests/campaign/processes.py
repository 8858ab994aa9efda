"""Trainings in forked processes: they start in a tenth of a second, since this process has imported everything."""

import contextlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import scipy.fft
import scipy.ndimage
import skimage.metrics
import torch
import torch._dynamo

from quell.launch import train
from quell.launch.training import run as training_run
from tests.support.ports import free_ports

LONGEST_S = 900.0
"""After this long a process counts as hanging; on an idle core the longest but one run takes two seconds."""

IMPORTED = (torch, training_run, torch._dynamo, scipy.fft, scipy.ndimage, skimage.metrics)
"""What trainings import at some time, DistributedDataParallel and evaluation included: seconds that no fork repeats."""

HUNG = -1
"""Instead of an exit code: the process had to be killed because it did not end."""


def train_words(words: Sequence[object], run_dir: Path) -> Callable[[], int]:
    """What trains a run, to be called in a process of its own."""

    def run() -> int:
        return train.main([*map(str, words), "--run-dir", str(run_dir)])

    return run


def start(work: Callable[[], int], log: Path, *, ranks: int = 1) -> list[int]:
    """Do `work` in forked processes, with the environment of a launcher if there are several; their process ids."""
    (port,) = free_ports(1)
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            _become(rank, ranks, port, log)
            os._exit(_code_of(work))
        children.append(child)
    return children


def outcome(work: Callable[[], int], log: Path, *, ranks: int = 1) -> int:
    """Do `work` in forked processes and wait; the first exit code that is not 0, or HUNG."""
    return wait(start(work, log, ranks=ranks))


def wait(children: Sequence[int]) -> int:
    """Wait for processes; the first exit code that is not 0 (128 + the signal that ended one), or HUNG."""
    deadline, left, codes = time.monotonic() + LONGEST_S, list(children), []
    while left and time.monotonic() < deadline:
        ended, status = os.waitpid(left[0], os.WNOHANG)
        if ended == 0:
            time.sleep(0.002)
            continue
        left.pop(0)
        codes.append(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return HUNG if left else next((code for code in codes if code), 0)


def signal_after(children: Sequence[int], seconds: float, number: int) -> None:
    """Send a signal to processes that may have ended by then."""
    time.sleep(seconds)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def _become(rank: int, ranks: int, port: int, log: Path) -> None:
    """Turn this process into a rank: its output goes to the log, and signals do what they do by default."""
    output = os.open(f"{log}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    warnings.simplefilter("default")  # pytest makes errors of them, which those of libraries are not
    if ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _code_of(work: Callable[[], int]) -> int:
    """The exit code of `work`; 70 for a traceback, which goes to the log."""
    try:
        return work()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
