"""Locks on open files, on every platform; they are released when the process that holds them ends, however it ends.

On Windows other processes cannot read what is locked exclusively, which is the first 64 KiB of a file.
"""

import time
from enum import Enum
from typing import TextIO

import portalocker

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
    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    deadline = time.monotonic() + patience_s
    while True:
        try:
            portalocker.lock(file, kind | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked:
            if time.monotonic() >= deadline:
                return Lock.HELD_ELSEWHERE
            time.sleep(_PAUSE_S)
        except (portalocker.LockException, OSError):
            return Lock.UNSUPPORTED
        else:
            return Lock.ACQUIRED


def read_beside_lock(file: TextIO, characters: int) -> str:
    """The beginning of an open file; empty where another process has locked it on Windows."""
    try:
        return file.read(characters)
    except PermissionError:
        return ""
