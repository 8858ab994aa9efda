"""Advisory locks on open files (flock); they are released when the process that holds them ends, however it ends."""

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
        file: Any open file; only its descriptor is used.
        shared: Take a shared lock, which any number of processes may hold while none holds an exclusive one.
        patience_s: How long to retry while another process holds the lock.

    Returns:
        The outcome; some network file systems do not support locks at all.
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
