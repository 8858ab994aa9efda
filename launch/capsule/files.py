"""The capsule of a run on disk: RUN/capsule/.

| file | content |
|---|---|
| starts.jsonl | one line for every start of the run (launch/capsule/start.py), the first one first |
| packages-HASH.txt | the installed packages, one `name==version` a line |
| changes-HASH.patch | what the code differed in from its commit, for `git apply` |
| modules-HASH.json | path and text of modules of the user's own, where the method uses some |
| shards-HASH.json | name, size, samples and checksums of every shard of a split |

A line names the files that belong to it. They are named after their content, so that a run which is requeued often
keeps one of each.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from quell.configs.support.atomic_files import naming, temporary_beside
from quell.configs.support.json_files import Record, parse_json, read_json_lines

FOLDER, STARTS = "capsule", "starts.jsonl"


def folder_of(run_dir: str | Path) -> Path:
    """The capsule of a run."""
    return Path(run_dir) / FOLDER


def read_starts(run_dir: str | Path) -> list[Record]:
    """What was recorded at every start of a run, the first one first; empty where it has no capsule."""
    return read_json_lines(folder_of(run_dir) / STARTS)


def append(run_dir: str | Path, start: Record) -> None:
    """Add a start. Raises OSError where it cannot be written; readers see the old file or the new one."""
    file = folder_of(run_dir) / STARTS
    before = file.read_bytes() if file.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    _replace(file, before + json.dumps(start).encode() + b"\n")


def keep(run_dir: str | Path, name: str, suffix: str, content: bytes) -> str:
    """Write a part of the capsule unless it is there; the name of its file, `name-HASH.suffix`."""
    file = folder_of(run_dir) / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"
    if not file.exists():
        _replace(file, content)
    return file.name


def read_part(run_dir: str | Path, name: object) -> bytes | None:
    """The content of a part that a start names; None where it names none, or the file is missing or was changed."""
    if not isinstance(name, str) or Path(name).name != name:
        return None
    try:
        content = (folder_of(run_dir) / name).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest()[:12] in name else None


def read_json_part(run_dir: str | Path, name: object) -> Any:
    """The value in a part that holds JSON; None as for `read_part`."""
    content = read_part(run_dir, name)
    return None if content is None else parse_json(content)


def _replace(file: Path, content: bytes) -> None:
    temporary = temporary_beside(file)
    file.parent.mkdir(exist_ok=True)
    with naming(file):
        try:
            temporary.write_bytes(content)
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
