"""A thread that feeds one tracker, so that training never waits for a network, and no failure there ends it."""

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from quell.configs.support.event_log import curves_of
from quell.configs.support.json_files import Record
from quell.configs.support.secrets import mask
from quell.launch.runs.trackers.backend import Backend
from quell.launch.runs.trackers.ledger import Ledger, Steps

MOST_PICTURES = 64
"""Pictures that may wait for a slow tracker; further ones are dropped."""


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
    never go backward. What it has missed, because it failed or the run was killed, is sent from the log of the run.
    """

    def __init__(self, name: str, backend: Backend, ledger: Ledger, events: Sequence[Record]) -> None:
        """Start the thread; `events` is the log so far."""
        self.name = name
        self._backend, self._ledger = backend, ledger
        self._waiting: queue.Queue[_Curves | _Picture | None] = queue.Queue()
        self._pictures = 0
        """Pictures that are waiting."""
        self._drops = False
        self._problems: list[str] = []
        self._failed = False
        self._gives_up = threading.Event()
        self._sent: Steps = {}
        for event in events:
            if curves := curves_of(event):
                self._waiting.put(_Curves(curves, int(event["step"])))
        self._thread = threading.Thread(target=self._run, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def curves(self, values: dict[str, float], step: int) -> None:
        """Send the numbers of a step; returns at once."""
        if not self._failed:
            self._waiting.put(_Curves(values, step))

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        """Send a picture, uint8 (H, W, 3); returns at once."""
        if self._failed:
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

    def end(self) -> None:
        """Nothing will follow; returns at once."""
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

    def _run(self) -> None:
        try:
            self._start()
            while not self._gives_up.is_set() and (item := self._waiting.get()) is not None:
                self._send(item)
            if not self._gives_up.is_set():
                self._backend.finish()
                self._ledger.keep_sent(self.name, self._sent, now=True)
        except BaseException as error:  # trackers end the process that they cannot serve, with SystemExit
            self._failed = True
            reason = " ".join(mask(str(error)).split())[:300] or type(error).__name__
            self._problems.append(
                f"failed ({reason}); the run goes on without it, and what is missing is in metrics.jsonl "
                "and is sent at the next start"
            )
            with suppress(BaseException):
                if self._backend.keeps_at_once:
                    self._ledger.keep_sent(self.name, self._sent, now=True)
                if self._backend.tracker is not None:
                    self._backend.finish()

    def _start(self) -> None:
        identity = self._backend.start()
        is_continued = identity == self._backend.identity
        self._ledger.keep_id(self.name, identity)
        self._sent = dict(self._backend.sent()) if is_continued else {}
        self._backend.configure()

    def _send(self, item: _Curves | _Picture) -> None:
        if isinstance(item, _Picture):
            self._pictures -= 1
            if item.step > self._sent.get("val", -1):
                self._backend.picture(item.name, item.pixels, item.step)
            return
        kind = next(iter(item.values)).split("/")[0]
        if item.step > self._sent.get(kind, -1):
            self._backend.log(item.values, item.step)
            self._sent[kind] = item.step
            if self._backend.keeps_at_once:
                self._ledger.keep_sent(self.name, self._sent)
