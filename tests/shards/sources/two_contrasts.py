"""Building the folders `pd` and `pdfs` of a test, and reading what was built."""

from pathlib import Path
from typing import Any

import numpy as np

from quell.shards import build
from quell.shards.reading.shard_set import ShardSet


def build_contrasts(source: str, root: Path, *more: str) -> int:
    """Build root/pd and root/pdfs into root/out by a source; the exit code."""
    fields = ["--field", f"pd={root}/pd", "--field", f"pdfs={root}/pdfs"]
    return build.main([source, *fields, "--output", str(root / "out"), "--split", "1,0,0", *more])


def built_samples(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """Key -> fields of root/out in the units of the files."""
    shards = ShardSet.open(root / "out" / "train")
    notes: list[Any] = [shards.json(i) for i in range(len(shards))]
    return {
        shards.key(i): {name: shards.read(i, name) * notes[i]["scales"][name] for name in shards.fields}
        for i in range(len(shards))
    }
