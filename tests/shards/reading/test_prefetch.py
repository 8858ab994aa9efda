"""Items made ahead by several threads: in order, no further ahead than allowed, errors in their place, always ended."""

import threading
import time
from collections.abc import Callable, Generator

import pytest

from quell.shards.reading.prefetch import Prefetcher


def numbers(count: int, closed: list[int] | None = None) -> Generator[int, None, None]:
    """range(count); the end of the generator is noted."""
    try:
        yield from range(count)
    finally:
        if closed is not None:
            closed.append(1)


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.0005)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_order_does_not_depend_on_who_finishes_first(threads: int) -> None:
    done = [threading.Event() for _ in range(20)]

    def work(i: int) -> int:
        if i % threads != threads - 1:
            assert done[i + 1].wait(5)  # of those that run at the same time the last one finishes first
        done[i].set()
        return 10 * i

    prefetcher = Prefetcher(numbers(20), 2, work, threads)
    assert list(prefetcher) == [10 * i for i in range(20)]
    assert list(prefetcher) == []
    prefetcher.close()


def test_threads_work_at_the_same_time_and_no_further_ahead_than_allowed() -> None:
    together, started = threading.Barrier(3, timeout=5), []

    def work(i: int) -> int:
        started.append(i)
        if i < 3:
            together.wait()  # passes only if three threads are here
        return i

    prefetcher = Prefetcher(numbers(100), 2, work, 3)
    wait_until(lambda: prefetcher.waiting == 5)
    time.sleep(0.01)
    assert sorted(started) == [0, 1, 2, 3, 4], "two that wait, and one for each thread"
    assert prefetcher.is_ready and next(prefetcher) == 0
    prefetcher.close()
    assert not any(thread.name.startswith("quell-loader") for thread in threading.enumerate())


def test_errors_come_in_their_place() -> None:
    closed: list[int] = []

    def work(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    prefetcher = Prefetcher(numbers(9, closed), 4, work, 3)
    assert [next(prefetcher) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(prefetcher)
    assert closed == [1] and list(prefetcher) == []

    def failing() -> Generator[int, None, None]:
        yield 1
        raise KeyError("from the generator")

    prefetcher = Prefetcher(failing(), 4, lambda i: i, 2)
    assert next(prefetcher) == 1
    with pytest.raises(KeyError):
        next(prefetcher)


@pytest.mark.parametrize("threads", [1, 3])
def test_closing_early_ends_the_threads_and_the_generator(threads: int) -> None:
    closed: list[int] = []
    prefetcher = Prefetcher(numbers(10**6, closed), 2, lambda i: i, threads)
    next(prefetcher)
    prefetcher.close()
    prefetcher.close()
    assert closed == [1] and list(prefetcher) == []
    assert not any(thread.name.startswith("quell-loader") for thread in threading.enumerate())


def test_waiting_is_timed_and_readiness_known() -> None:
    gate = threading.Event()

    def work(i: int) -> int:
        gate.wait(5)
        return i

    prefetcher = Prefetcher(numbers(2), 2, work, 1)
    assert not prefetcher.is_ready and prefetcher.waiting == 0
    threading.Timer(0.02, gate.set).start()
    assert next(prefetcher) == 0 and prefetcher.wait_s > 0.01
    wait_until(lambda: prefetcher.is_ready)
    assert next(prefetcher) == 1
    wait_until(lambda: prefetcher.is_ready)  # the end is known, too
    assert list(prefetcher) == []
    prefetcher.close()
