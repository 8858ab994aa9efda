"""Small JSON files and JSON lines, read so that a missing or half-written one is no exception."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One JSON object."""


def parse_json(text: str | bytes) -> Any:
    """Any JSON value. Raises ValueError where the text is not JSON, also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(file: Path) -> Record:
    """The object in a JSON file; empty where the file is missing, half-written, or holds something else."""
    try:
        value = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_json_lines(file: Path, *, last_bytes: int | None = None) -> list[Record]:
    """The objects of a JSON-lines file in order; lines that are not whole objects are left out.

    Args:
        file: A missing file has no lines.
        last_bytes: Read only this much of the file's end.
    """
    try:
        with file.open("rb") as opened:
            if last_bytes is not None:
                opened.seek(max(0, file.stat().st_size - last_bytes))
            data = opened.read()
    except OSError:
        return []
    return list(_objects(data))


def _objects(data: bytes) -> Iterator[Record]:
    for line in data.splitlines():
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
