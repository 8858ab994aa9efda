"""What a model was trained with, as the capsule of its run recorded it."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from quell.configs.support.event_log import read_events
from quell.configs.support.json_files import Record
from quell.launch.capsule import packages
from quell.launch.capsule.files import read_part, read_starts
from quell.launch.runs.folder import RunFolder

PACKAGES = ("quell", "torch", "numpy", "accelerate", "safetensors")
"""Packages whose versions are noted."""


def start_of(run_dir: Path, step: int) -> Record:
    """The start of the run that trained up to a step; empty where the run has no capsule."""
    starts = read_starts(run_dir)
    earlier = [start for start in starts if isinstance(start.get("step"), int) and start["step"] < step]
    return (earlier or starts[:1] or [{}])[-1]


def versions(run_dir: Path, start: Record) -> dict[str, str]:
    """Versions of Python and PACKAGES at a start of the run; empty where they were not recorded."""
    content = read_part(run_dir, start.get("packages"))
    if content is None:
        return {}
    machine = _record(start, "machine")
    installed = packages.from_text(content.decode(errors="replace"))
    own = {"quell": _record(start, "code").get("version"), "torch": machine.get("torch")}  # as they name themselves
    return _known({name: own.get(name) or installed.get(name) for name in PACKAGES} | {"python": machine.get("python")})


def versions_here() -> dict[str, str]:
    """Versions of Python and PACKAGES in this process."""
    return _known({name: _version(name) for name in PACKAGES} | {"python": platform.python_version()})


def device(folder: RunFolder, start: Record) -> str:
    """The device of a start of the run, as its maker calls it; from the log of a run without capsule."""
    machine = _record(start, "machine")
    named = [entry.get("name") for entry in machine.get("devices") or [] if isinstance(entry, dict)]
    if found := (named[0] if named else machine.get("cpu")):
        return str(found)
    starts = [event for event in read_events(folder.metrics_file) if event["event"] in ("start", "resume")]
    last = starts[-1] if starts else {}
    return str(last.get("device_name") or last.get("device") or "")


def commit(start: Record, meta: Record) -> str:
    """The commit of the code that trained, with a plus where it was changed; empty where none was recorded."""
    return str(_record(start, "code").get("commit") or meta.get("commit") or "")


def _record(start: Record, key: str) -> Record:
    value = start.get(key)
    return value if isinstance(value, dict) else {}


def _known(numbers: Mapping[str, str | None]) -> dict[str, str]:
    return {name: number for name, number in numbers.items() if number}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
