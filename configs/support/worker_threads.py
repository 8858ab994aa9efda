"""Worker threads whose failure ends the work at once: results in order, the first error immediately."""

import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NoReturn, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PREFIX = "quell-work"
"""Beginning of the names of the threads."""
GRACE_S = 0.4
"""How long, after a failure, the results of earlier items and the threads that are still busy are waited for."""


def map_ordered(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, *, ahead: int | None = None
) -> Iterator[Result]:
    """Yield function(item) for each item, in the order of the items, computed by threads a few items ahead.

    The first exception in any thread is raised here within GRACE_S, in which earlier items may still be completed,
    whatever the other threads are doing: they are daemons, and are not waited for. A program that ends after a failure
    should end with `end_process`.

    Args:
        function: Runs in a worker thread.
        items: What it is called with.
        workers: Number of threads.
        ahead: How many results may be computed before they are taken, by default twice the workers.

    Raises:
        BaseException: Whatever `function` raised.
    """
    work = _Work(function, items, ahead or workers * 2)
    threads = [
        threading.Thread(target=work.run, name=f"{PREFIX}-{number}", daemon=True)
        for number in range(min(workers, len(items)))
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(len(items)):
            yield work.result(number)
    finally:
        work.stop()
        deadline = time.monotonic() + GRACE_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def end_process(code: int) -> NoReturn:
    """End the process with this exit code, at once where a worker is still busy after a failure.

    The interpreter's own way out runs clean-up code of libraries, which may wait for a lock that such a worker holds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith(PREFIX) for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


class _Work(Generic[Item, Result]):
    """What the threads and the consumer share; every attribute is guarded by `changed`."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item], ahead: int) -> None:
        self.function, self.items, self.ahead = function, items, ahead
        self.changed = threading.Condition()
        self.begun = self.taken = 0
        self.results: dict[int, Result] = {}
        self.failure: tuple[int, BaseException] | None = None
        """The first item that failed, in their order, and why."""
        self.failed_at_s = math.inf
        self.is_stopped = False

    def run(self) -> None:
        """Compute results until there are no more items, the work is stopped, or one fails."""
        while (number := self._next()) is not None:
            try:
                result = self.function(self.items[number])
            except BaseException as error:
                release_frames(error)
                with self.changed:
                    if self.failure is None or number < self.failure[0]:
                        self.failure = number, error
                    self.failed_at_s, self.is_stopped = min(self.failed_at_s, time.monotonic()), True
                    self.changed.notify_all()
                return
            with self.changed:
                self.results[number] = result
                self.changed.notify_all()

    def result(self, number: int) -> Result:
        """Wait for a result; raises what any thread has raised."""
        with self.changed:
            while number not in self.results:
                grace_s = self.failed_at_s + GRACE_S - time.monotonic()
                if self.failure is not None and (number >= self.failure[0] or grace_s <= 0):
                    raise self.failure[1]
                self.changed.wait(None if self.failure is None else grace_s)
            self.taken = number + 1
            self.changed.notify_all()
            return self.results.pop(number)

    def stop(self) -> None:
        """Let the threads end after their current item."""
        with self.changed:
            self.is_stopped = True
            self.changed.notify_all()

    def _next(self) -> int | None:
        with self.changed:
            self.changed.wait_for(
                lambda: self.is_stopped or self.begun == len(self.items) or self.begun - self.taken < self.ahead
            )
            if self.is_stopped or self.begun == len(self.items):
                return None
            self.begun += 1
            return self.begun - 1


def release_frames(error: BaseException) -> None:
    """Drop the local variables that the traceback of an exception keeps alive, in the thread that raised it.

    Among them may be a suspended generator that holds a lock, such as h5py's `items()`: as long as another thread owns
    the traceback, nobody could release that lock, and the first use of the library anywhere would hang.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
