"""The report of a build for programs: `build.json`, beside the splits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from quell.configs.support.atomic_files import write_atomically
from quell.shards.format.index import IndexHeader
from quell.shards.listing import left_out
from quell.shards.listing.left_out import LeftOut

NAME = "build.json"


def write(
    output: Path, name: str, headers: Mapping[str, IndexHeader], entries: Mapping[str, Sequence[LeftOut]]
) -> None:
    """Write the report.

    Args:
        output: The folder of the data set.
        name: The source.
        headers: Split -> its index header.
        entries: Split -> what was left out of its items; '' stands for what no split would have held.
    """
    listed = [(split, entry) for split, of_split in entries.items() for entry in dict.fromkeys(of_split)]
    notes = next(iter(headers.values()))["meta"]
    report = {
        "source": name,
        "data_range": notes.get("data_range"),
        "data_range_from": notes.get("data_range_from", "declared"),
        "resize": notes.get("resize"),
        "splits": {
            split: {
                "samples": header["samples"],
                "shards": len(header["shards"]),
                "bytes": sum(shard["size"] for shard in header["shards"]),
                "fields": {
                    field: {key: entry[key] for key in ("dtype", "channels", "shape", "count")}
                    for field, entry in header["fields"].items()
                },
            }
            for split, header in headers.items()
        },
        "left_out": {
            "counts": left_out.counts(entry for _, entry in listed),
            "harmless": [kind for kind in left_out.HARMLESS if any(entry.kind == kind for _, entry in listed)],
            "entries": [{**asdict(entry), **({"split": split} if split else {})} for split, entry in listed],
        },
    }
    write_atomically(output / NAME, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
