"""Worker threads: results in order, and a failure that ends everything whatever the other threads do."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quell.configs.support.paths import ROOT
from quell.configs.support.worker_threads import map_ordered

ONE_FAILS_WHILE_ANOTHER_HANGS = """
import sys, threading
from quell.configs.errors import DataError, run_command
from quell.configs.support.worker_threads import end_process, map_ordered
lock = threading.Lock()
def work(number):
    if number == 0:
        with lock:
            threading.Event().wait()    # never returns, and holds a lock
    raise DataError("file-1: is broken")
def command():
    list(map_ordered(work, range(4), 2))
    return 0
import atexit
atexit.register(lock.acquire)           # clean-up that needs the lock, as h5py's
end_process(run_command(command))
"""


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_ordered(lambda x: x * x, range(50), workers)) == [x * x for x in range(50)]
    assert list(map_ordered(lambda x: x, [], workers)) == []


def test_only_a_few_items_are_loaded_ahead() -> None:
    begun: list[int] = []
    results = map_ordered(begun.append, range(100), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 5


def test_a_failure_is_raised_although_an_earlier_item_never_ends() -> None:
    release = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            release.wait()
        raise ValueError(f"item {number}")

    with pytest.raises(ValueError, match="item 1"):
        list(map_ordered(work, range(3), 2))
    release.set()


@pytest.mark.parametrize("error", [ValueError, MemoryError, SystemExit, KeyboardInterrupt])
def test_whatever_a_worker_raises_is_raised(error: type[BaseException]) -> None:
    def work(number: int) -> int:
        if number == 3:
            raise error
        return number

    results = map_ordered(work, range(9), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]  # items before the failure are not lost
    with pytest.raises(error):
        next(results)


def test_a_lock_held_by_a_suspended_generator_of_the_failed_frame_is_released() -> None:
    """As h5py's `items()` does: without that, the next user of the lock would wait forever."""
    lock = threading.RLock()

    def entries() -> Iterator[int]:
        with lock:
            yield from range(5)

    def work(number: int) -> list[int]:
        iterator = entries()
        return [1 // entry for entry in iterator]

    with pytest.raises(ZeroDivisionError) as caught:
        list(map_ordered(work, range(1), 1))
    assert caught.value.__traceback__ is not None  # still alive, as in a program that reports it
    assert lock.acquire(timeout=5)


def test_a_process_ends_with_its_code_although_a_worker_hangs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", ONE_FAILS_WHILE_ANOTHER_HANGS], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (4, "error: file-1: is broken\n")
