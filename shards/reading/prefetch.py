"""An iterator run ahead of its consumer in a thread."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    """Follows the last item in the queue."""


@dataclass
class _Failure:
    """Follows the last item where the iterator raised."""

    error: BaseException


class Prefetcher(Generic[T]):
    """Iterates a generator in a thread, so that the next batches are assembled while the model works on the last one.

    A thread is enough: reading, decoding and numpy release the GIL. Worker processes would each hold a copy of the
    open files and the index, and every batch would have to cross a process boundary through shared memory.

    An exception of the generator is raised in the consumer, in place of the item that failed. The generator is closed
    by the thread that ran it.
    """

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        self.wait_s = 0.0
        """Seconds the consumer has waited for items so far."""
        self._items = items
        self._ready: queue.Queue[T | _End | _Failure] = queue.Queue(maxsize=max(depth, 1))
        self._stop = threading.Event()
        self._is_done = False
        self._thread = threading.Thread(target=self._fill, name="quell-loader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._is_done:
            raise StopIteration
        start = time.perf_counter()
        item = self._ready.get()
        self.wait_s += time.perf_counter() - start
        if isinstance(item, _End):
            self._is_done = True
            raise StopIteration
        if isinstance(item, _Failure):
            self.close()
            raise item.error
        return item

    def close(self) -> None:
        """Stop the thread, wait for its end and drop the items it prepared; safe to call twice."""
        self._is_done = True
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()  # the thread may be blocked on a full queue
            except queue.Empty:
                self._thread.join(timeout=0.01)
        self._ready = queue.Queue()

    def _fill(self) -> None:
        try:
            for item in self._items:
                self._ready.put(item)
                if self._stop.is_set():
                    break
            else:
                self._ready.put(_End())
        except BaseException as error:
            self._ready.put(_Failure(error))
        finally:
            self._items.close()
