"""Small JSON files and JSON lines, read so that a missing or half-written one is no exception."""

import json
import math
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
        value = parse_json(file.read_bytes()) if file.is_file() else None  # a pipe would wait for ever
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


def strict_json(value: object) -> str:
    """JSON text that any reader accepts, indented: NaN becomes null, infinity the texts "inf" and "-inf".

    Python's own default writes NaN and Infinity, which are no JSON. `number` reads such values back.
    """
    return json.dumps(_strict(value), indent=1, allow_nan=False)


def number(value: object) -> float | None:
    """A number as `strict_json` has written it; None for null, and for what is no number."""
    if isinstance(value, str):
        return {"inf": math.inf, "-inf": -math.inf}.get(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _strict(value: object) -> object:
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _objects(data: bytes) -> Iterator[Record]:
    for line in data.splitlines():
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
