"""A thread that feeds one tracker, so that training never waits for a network, and no failure there ends it."""

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.support.event_log import curves_of, read_log
from quell.configs.support.json_files import Record
from quell.configs.support.secrets import mask
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import Backend
from quell.launch.runs.trackers.ledger import Ledger, Steps

MOST_PICTURES = 64
"""Pictures that may wait for a slow tracker; further ones are dropped."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 900.0
"""Time before a tracker that failed is started again, which doubles with every failure in a row."""


class _Curves(NamedTuple):
    values: dict[str, float]
    step: int


class _Picture(NamedTuple):
    name: str
    pixels: np.ndarray
    step: int


class Relay:
    """Sends curves and pictures to one tracker, in the order in which they come.

    What it was sent for a step stands: numbers that a resumed run computes again are not sent again, so that steps
    never go backward. A tracker that fails is started again, after pauses that grow, and once more at the end of the
    run. What it has missed, because it failed or the run was killed, is sent from the log of the run.

    Args:
        name: What the tracker is called.
        make: Creates it as it is to start now: with the id and the steps that the ledger holds.
        ledger: What the run folder remembers of it.
        log_file: metrics.jsonl of the run.
        events: Its content so far.
    """

    def __init__(
        self, name: str, make: Callable[[], Backend], ledger: Ledger, log_file: Path, events: Sequence[Record]
    ) -> None:
        """Start the thread."""
        self.name = name
        self._make, self._ledger, self._log_file = make, ledger, log_file
        self._waiting: queue.Queue[_Curves | _Picture | None] = queue.Queue()
        self._pictures = 0
        """Pictures that are waiting."""
        self._drops = False
        self._problems: list[str] = []
        self._is_down = False
        """Whether nothing is kept for it, because the log does that until it is started again."""
        self._is_failing = False
        """Whether it has failed, and has not been sent since what it missed."""
        self._ending: Ending = "stopped"
        self._ended, self._gives_up = threading.Event(), threading.Event()
        self._sent: Steps = {}
        self._thread = threading.Thread(target=self._run, args=(events,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def curves(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step; returns at once."""
        if not self._is_down:
            self._waiting.put(_Curves(values, step))

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3); returns at once."""
        if self._is_down:
            return
        if self._pictures >= MOST_PICTURES:
            if not self._drops:
                self._problems.append("pictures are dropped: it is slower than training")
            self._drops = True
            return
        self._pictures += 1
        self._waiting.put(_Picture(name, picture_HWC, step))

    def new_problems(self) -> list[str]:
        """What has gone wrong since the last call, in sentences."""
        found, self._problems = self._problems, []
        return found

    def end(self, ending: Ending) -> None:
        """Nothing will follow; returns at once."""
        self._ending = ending
        self._ended.set()
        self._waiting.put(None)

    def close(self, patience_s: float) -> None:
        """Send what was waiting before `end`, for at most this many seconds, and end the run there."""
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self._gives_up.set()
            self._problems.append(
                "has not taken everything in time; what is missing is in metrics.jsonl, "
                "and is sent when the run is resumed"
            )

    def _run(self, events: Sequence[Record]) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._gives_up.is_set():
            is_last = self._ended.is_set()
            backend = self._make()
            try:
                self._start(backend)
                self._catch_up(backend, events)
                self._serve(backend)
                return
            except BaseException as error:  # trackers end the process that they cannot serve, with SystemExit
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if self._is_failing else FIRST_PAUSE_S
                self._explain(error, is_last=is_last)
                self._leave(backend)
            if is_last:
                return
            self._ended.wait(pause_s)

    def _start(self, backend: Backend) -> None:
        identity = backend.start()
        is_continued = identity == backend.identity
        self._ledger.keep_id(self.name, identity)
        self._sent = dict(backend.sent()) if is_continued else {}
        backend.configure()

    def _catch_up(self, backend: Backend, events: Sequence[Record]) -> None:
        """Send what it misses of the log: `events`, or after a failure the log as it is by now."""
        if self._is_down:
            self._is_down = False  # before the log is read, so that nothing is in neither it nor the queue
            events = read_log(self._log_file).events
        for event in events:
            if (curves := curves_of(event)) and not self._gives_up.is_set():
                self._send(backend, _Curves(curves, int(event["step"])))
        if self._is_failing:
            self._is_failing = False
            self._problems.append("failed for a while, and has been sent all curves since, but not the pictures")

    def _serve(self, backend: Backend) -> None:
        """Send what comes, and end the run there after the last of it."""
        while not self._gives_up.is_set() and (item := self._waiting.get()) is not None:
            self._send(backend, item)
        if not self._gives_up.is_set():
            backend.finish(self._ending)
            self._keep_sent(backend)

    def _send(self, backend: Backend, item: _Curves | _Picture) -> None:
        if isinstance(item, _Picture):
            self._pictures -= 1
            if item.step > self._sent.get("val", -1):
                backend.picture(item.name, item.pixels, item.step)
            return
        kind = next(iter(item.values)).split("/")[0]
        if item.step > self._sent.get(kind, -1):
            backend.log(item.values, item.step)
            self._sent[kind] = item.step
            if backend.keeps_at_once:
                self._keep_sent(backend, now=False)

    def _keep_sent(self, backend: Backend, *, now: bool = True) -> None:
        self._ledger.keep_sent(self.name, self._sent, offline=backend.is_offline(backend.run), now=now)

    def _explain(self, error: BaseException, *, is_last: bool) -> None:
        """Warn of a failure: the first of several in a row, and the last one."""
        reason = " ".join(mask(str(error)).split())[:300] or type(error).__name__
        if is_last:
            self._problems.append(
                f"failed ({reason}); what is missing is in metrics.jsonl, and is sent when the run is resumed"
            )
        elif not self._is_failing:
            self._problems.append(
                f"failed ({reason}); the run goes on without it, tries again from time to time, and then sends what is "
                "missing from metrics.jsonl"
            )
        self._is_failing = True

    def _leave(self, backend: Backend) -> None:
        """Forget what is waiting, which the log has, and end the tracker that failed as far as it can be ended."""
        self._is_down = True
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._pictures = 0
        if self._ended.is_set():
            self._waiting.put(None)
        with suppress(BaseException):
            if backend.keeps_at_once:
                self._keep_sent(backend)
            if backend.tracker is not None:
                backend.finish(self._ending)
                self._keep_sent(backend)
