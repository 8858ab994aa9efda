"""An iterator run ahead of its consumer by a thread."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END = object()


class Prefetcher(Generic[T]):
    """Iterates `items` in a thread, at most `depth` ahead; what goes wrong there is raised here."""

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        self.wait_s = 0.0
        """Seconds the consumer has waited for the next item."""
        self._items = items
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=max(depth, 1))
        self._stop = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._fill, name="quell-loader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._done:
            raise StopIteration
        began = time.perf_counter()
        item = self._ready.get()
        self.wait_s += time.perf_counter() - began
        if item is _END:
            self._done = True
            raise StopIteration
        if isinstance(item, _Failure):
            self.close()
            raise item.error
        return item

    def close(self) -> None:
        """End the thread and wait for it; safe to call twice."""
        self._done = True
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()  # a full queue must not hold the thread back
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
                self._ready.put(_END)
        except BaseException as error:
            self._ready.put(_Failure(error))
        finally:
            self._items.close()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error
