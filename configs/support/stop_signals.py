"""The signals that ask a training run to save a checkpoint and stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""Signals on which a training run saves a checkpoint and exits with code 75; on Windows, Ctrl-Break sends SIGBREAK."""

IGNORE_STOP_SIGNALS = """sh -c 'trap "" USR1 USR2 TERM; exec "$@"' sh"""
"""Prefix of a command that ignores stop signals until it handles them: none must kill Python while it starts up."""


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Inside the block stop signals go to `handler(number, frame)`; the previous handlers are restored afterwards."""
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
