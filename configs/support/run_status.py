"""How a run stands, for everybody who reads its folder: a run whose process is gone is not running.

summary.json says `running` until the run writes how it ended, which a killed process never does. While a run is alive
it holds the lock on its folder and touches the lock file, the heartbeat. Readers compare both.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quell.configs.support.json_files import Record, read_json
from quell.configs.support.locks import Lock, read_beside_lock, try_lock

SUMMARY_FILE, LOCK_FILE = "summary.json", ".lock"

RUNNING, INTERRUPTED = "running", "interrupted"

HEARTBEAT_S, STALE_S = 20.0, 120.0
"""Interval of the heartbeat, and its age from which on a process on another machine counts as gone."""

_TYPES: dict[str, type] = {"status": str, "step": int, "steps": int, "metrics": dict, "warnings": dict, "error": str}
"""What every reader relies on; a value of another type is damage, and left out."""

_HOST = re.compile(r" on ([^\s,]+)")


def this_process() -> str:
    """The process that holds a lock, as the lock file names it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def read_summary(run_dir: str | Path) -> Record:
    """A run's summary.json, with the status `interrupted` where it says `running` and no process is left.

    Returns:
        The summary; empty where there is none that can be read.
    """
    file = Path(run_dir) / SUMMARY_FILE
    summary = read_json(file)
    if summary.get("status") == RUNNING and not is_alive(run_dir):
        summary = read_json(file)  # the run may have ended, and said how, since it was read
        if summary.get("status") == RUNNING:
            summary["status"] = INTERRUPTED
    return {key: value for key, value in summary.items() if key not in _TYPES or _is_a(value, _TYPES[key])}


def is_alive(run_dir: str | Path) -> bool:
    """Whether a process trains in a run folder.

    On the machine of that process its lock decides. Elsewhere a lock need not be visible, and may outlive a machine
    that crashed; there the heartbeat decides.
    """
    try:
        with (Path(run_dir) / LOCK_FILE).open(encoding="utf-8", errors="replace") as file:
            lock = try_lock(file, shared=True)
            holder = _HOST.search(read_beside_lock(file, 1000))
            is_fresh = time.time() - os.fstat(file.fileno()).st_mtime < STALE_S
    except OSError:
        return False  # no run ever started here, or somebody removed the lock of one that is gone
    is_here = holder is not None and holder[1] == socket.gethostname()
    if is_here and lock is not Lock.UNSUPPORTED:
        return lock is Lock.HELD_ELSEWHERE
    return is_fresh


@contextmanager
def heartbeat(run_dir: Path) -> Iterator[None]:
    """Inside the block a thread touches the lock file regularly."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_S):
            try:
                os.utime(run_dir / LOCK_FILE)
            except OSError:
                continue  # a disk that does not answer is noticed by what the run itself writes

    thread = threading.Thread(target=beat, name="quell-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
