"""Advisory locks on open files (flock); they end with the process that holds them, however it ends."""

import fcntl
import time
from enum import Enum
from typing import TextIO

_PAUSE_S = 0.05


class Lock(Enum):
    """The outcome of an attempt to lock a file."""

    ACQUIRED = "acquired"
    HELD_ELSEWHERE = "held by another process"
    UNSUPPORTED = "not supported by this file system"


def try_lock(file: TextIO, *, shared: bool = False, patience_s: float = 0.0) -> Lock:
    """Lock an open file until it is closed.

    Args:
        file: Any open file; only the descriptor is used.
        shared: Any number of processes may hold a shared lock, while nobody holds an exclusive one.
        patience_s: How long to try again while another process holds the lock.

    Returns:
        What became of it; some network file systems have no locks at all.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return Lock.HELD_ELSEWHERE
            time.sleep(_PAUSE_S)
        except OSError:
            return Lock.UNSUPPORTED
        else:
            return Lock.ACQUIRED
