"""An iterator run ahead of its consumer in one or several threads, its order unchanged."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Slot(Generic[T]):
    """The place of an item in the order; a thread fills it."""

    __slots__ = ("error", "is_filled", "value")

    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None
        self.is_filled = False


class Prefetcher(Generic[T]):
    """Iterates a generator in threads, so that the next batches are assembled while the model works on the last one.

    Threads are enough: reading, decoding and numpy release the GIL. Worker processes would each hold a copy of the
    open files and the index, and every batch would have to cross a process boundary through shared memory.

    An exception of the generator or of `work` is raised in the consumer, in place of the item that failed.

    Args:
        items: What to iterate; only one thread at a time asks it for the next item.
        depth: Finished items that may wait for the consumer; each thread works on one more.
        work: What is done to each item, by several threads at the same time; None for nothing.
        threads: How many there are.
    """

    def __init__(
        self,
        items: Generator[Any, None, None],
        depth: int,
        work: Callable[[Any], T] | None = None,
        threads: int = 1,
    ) -> None:
        self.wait_s = 0.0
        """Seconds the consumer has waited for items so far."""
        self._items, self._work = items, work
        self._limit = max(depth, 1) + threads
        self._slots: deque[_Slot[T]] = deque()
        self._changed = threading.Condition()
        self._asking = threading.Lock()
        self._has_ended = self._is_closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"quell-loader-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        start = time.perf_counter()
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self.is_ready)
            if not self._slots or self._is_closed:
                self._is_closed = True
                raise StopIteration
            slot = self._slots.popleft()
            self._changed.notify_all()
        self.wait_s += time.perf_counter() - start
        if slot.error is not None:
            self.close()
            raise slot.error
        return slot.value  # type: ignore[return-value]

    @property
    def is_ready(self) -> bool:
        """Whether the consumer would not have to wait: for the next item, an error or the end."""
        return self._slots[0].is_filled if self._slots else self._has_ended

    @property
    def waiting(self) -> int:
        """Finished items that wait for the consumer."""
        return sum(slot.is_filled for slot in tuple(self._slots))

    def close(self) -> None:
        """Stop the threads, wait for their end and drop the items they prepared; safe to call twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._slots.clear()
        self._items.close()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            slot, item = taken
            try:
                slot.value = item if self._work is None else self._work(item)
            except BaseException as error:
                self._fail(slot, error)
            del item, taken
            self._fill(slot)
            del slot  # else the thread would hold on to the last batch while it waits

    def _take(self) -> tuple[_Slot[T], Any] | None:
        """The next item, and its place in the order; None where there is nothing more to do."""
        with self._asking:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._has_ended or len(self._slots) < self._limit)
                if self._is_closed or self._has_ended:
                    return None
            slot: _Slot[T] = _Slot()
            try:
                item = next(self._items)
            except StopIteration:
                with self._changed:
                    self._has_ended = True
                    self._changed.notify_all()
                return None
            except BaseException as error:
                self._fail(slot, error)
                self._append(slot)
                self._fill(slot)
                return None
            self._append(slot)
            return slot, item

    def _append(self, slot: _Slot[T]) -> None:
        with self._changed:
            self._slots.append(slot)

    def _fill(self, slot: _Slot[T]) -> None:
        with self._changed:
            slot.is_filled = True
            self._changed.notify_all()

    def _fail(self, slot: _Slot[T], error: BaseException) -> None:
        """Keep an error for the consumer; nothing after it is needed."""
        slot.error = error
        with self._changed:
            self._has_ended = True
