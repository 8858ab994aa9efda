"""An index and the tars it lists -> header and table, checked against each other before anything is trusted."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import DataError
from shards.format import index


def load(place: Path, *, thorough: bool = False) -> tuple[dict[str, Any], np.ndarray]:
    """Header and memory-mapped table, checked against each other; with `thorough` every byte of a large table too.

    Raises DataError naming the file and how to mend it.
    """
    repair = "delete index.json and index.npy to have them made again"
    try:
        header = json.loads((place / index.HEADER).read_text(encoding="utf-8"))
        if header["format"] != index.FORMAT or header["version"] != index.VERSION:
            raise DataError(
                f"{place / index.HEADER}: {header['format']} version {header['version']} cannot be read, "
                f"only {index.FORMAT} version {index.VERSION}; {repair}"
            )
        if header.get("checksum", index.header_checksum(header)) != index.header_checksum(header):
            raise DataError(f"{place / index.HEADER}: the index is damaged (checksum); {repair}")
        with open(place / index.TABLE, "rb") as file:
            noted, found = header["table"], index.table_print(file.fileno(), whole=thorough)
            if None in (noted["whole"], found["whole"]):
                found["whole"] = noted["whole"]  # a large table, of which only the ends are compared
            if noted != found:
                raise DataError(f"{place / index.TABLE}: does not belong to {index.HEADER} beside it; {repair}")
        table = np.load(place / index.TABLE, mmap_mode="r", allow_pickle=False)
        used = (header["kinds"], header["fields"], header["meta"], header["statistics"])
        inside = all(is_plain_name(shard["name"]) for shard in header["shards"])
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: this half of the index is missing; {repair}") from error
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise DataError(f"{place / index.HEADER}: the index is damaged ({error!r}); {repair}") from error
    if len(table) != header["samples"] or not inside or not all(isinstance(part, (dict, list)) for part in used):
        raise DataError(f"{place / index.HEADER}: the index is damaged; {repair}")
    return header, table


def same_tars(folder: Path, shards: list[Path], header: dict[str, Any]) -> None:
    """Refuse an index whose shards are not exactly those of the folder; contents are compared when each is opened."""
    known = {shard["name"]: shard["size"] for shard in header["shards"]}
    fix = f"if the shards are right, run python -m shards.verify {folder} --repair"
    for shard in shards:
        if shard.name not in known:
            raise DataError(f"{shard}: not in the index of {len(known)} shards, which is stale; {fix}")
        size = shard.stat().st_size
        if size != known.pop(shard.name):
            raise DataError(f"{shard}: {size} bytes now, not those that were indexed (cut off or replaced); {fix}")
    if known:
        raise DataError(f"{folder / min(known)}: this shard is missing; the index lists it")


def is_plain_name(name: object) -> bool:
    """Whether a shard's name stays inside its folder, wherever that is copied to."""
    return isinstance(name, str) and name.endswith(".tar") and Path(name).name == name
