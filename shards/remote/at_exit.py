"""What a process does last, also where it ends without finalising Python (`os._exit`)."""

import atexit
import contextlib
from collections.abc import Callable

_functions: list[Callable[[], object]] = []


def register(function: Callable[[], object]) -> None:
    """Call a function when this process exits; errors of the system in it are ignored, for nobody is left to help."""
    if not _functions:
        atexit.register(run)
    _functions.append(function)


def run() -> None:
    """Call what was registered, the last first, each once. Before `os._exit`, which skips what atexit would call."""
    while _functions:
        with contextlib.suppress(OSError):
            _functions.pop()()
