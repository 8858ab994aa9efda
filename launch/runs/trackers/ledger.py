"""RUN/trackers.json: by which id each tracker knows the run, and up to which steps it has been sent the curves."""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import read_json

FILE = "trackers.json"
_EVERY_S = 1.0
"""Least time between two writes, so that short steps do not write a file each."""
_OLD_WANDB_ID = Path("wandb") / "quell_run_id"
"""Where versions up to 0.2 kept the id of Weights & Biases."""

Steps = dict[str, int]
"""Kind of curves (train, val) -> the last step that was sent."""


class Ledger:
    """What a run folder remembers of its trackers; safe from several threads.

    Args:
        run_dir: The run folder.
        line: Names the line of descent that the run continues (`line_name`). On another one, nothing is remembered.
        is_same_run: False where the folder held a run of another configuration, of which nothing is remembered.
        origin: What a run that starts from zero is made from, such as its code and data, by name. Where the folder held
            one that was made from something else, nothing is remembered. None for a run that continues.
    """

    def __init__(
        self, run_dir: Path, line: str, *, is_same_run: bool = True, origin: Mapping[str, str] | None = None
    ) -> None:
        self._file, self._lock, self._written_s = run_dir / FILE, threading.Lock(), 0.0
        known = read_json(self._file) if is_same_run else {}
        if known.get("line") != line or _differs(known.get("origin"), origin):
            known = {}
        ids, sent = known.get("ids"), known.get("sent")
        self._line, self._origin = line, _mapping(known.get("origin")) or origin or {}
        self._offline = {name for name in _list(known.get("offline")) if isinstance(name, str)}
        self._ids = {name: value for name, value in _mapping(ids).items() if isinstance(value, str)}
        self._sent = {
            name: {kind: step for kind, step in _mapping(steps).items() if type(step) is int}
            for name, steps in _mapping(sent).items()
        }
        if not known and is_same_run and not line and (run_dir / _OLD_WANDB_ID).is_file():
            self._ids["wandb"] = (run_dir / _OLD_WANDB_ID).read_text(encoding="utf-8").strip()

    def id_of(self, tracker: str) -> str | None:
        """The id of the run at a tracker; None where it has not been there."""
        with self._lock:
            return self._ids.get(tracker)

    def sent(self, tracker: str, *, offline: bool = False) -> Steps:
        """What a tracker has been sent; unless `offline`, what may be in files that nobody has sent does not count."""
        with self._lock:
            return {} if tracker in self._offline and not offline else dict(self._sent.get(tracker, {}))

    def keep_id(self, tracker: str, identity: str) -> None:
        """Remember the id of the run at a tracker, from now on.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            if self._ids.get(tracker) != identity:
                self._ids[tracker] = identity
                self._write()

    def keep_sent(self, tracker: str, steps: Steps, *, offline: bool = False, now: bool = False) -> None:
        """Remember what a tracker has been sent, or has written to files with `offline`.

        It is on disk at once with `now`, else within a second of the next call.

        Raises:
            OSError: The file cannot be written.
        """
        with self._lock:
            self._sent[tracker] = dict(steps)
            (self._offline.add if offline else self._offline.discard)(tracker)
            if now or time.monotonic() - self._written_s > _EVERY_S:
                self._write()

    def _write(self) -> None:
        content = {
            "line": self._line,
            "origin": dict(self._origin),
            "ids": self._ids,
            "sent": self._sent,
            "offline": sorted(self._offline),
        }
        write_atomically(self._file, json.dumps(content, indent=1) + "\n")
        self._written_s = time.monotonic()


def line_name(branches: list[tuple[int, str]]) -> str:
    """The name of a line of descent, the same at every start that continues it; empty for a run that never went back.

    Args:
        branches: Step and identity of each checkpoint that the run has returned to.
    """
    return "/".join(f"{after}-{start[:12]}" for after, start in branches if start)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _differs(recorded: object, origin: Mapping[str, str] | None) -> bool:
    """Whether two runs were made from different things; one that did not record it, or continues, was not."""
    return bool(origin) and isinstance(recorded, dict) and bool(recorded) and recorded != origin
