"""Data sets of shards in Python: `quell.open_shards(folder)[i]`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support import paths
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet

if TYPE_CHECKING:
    from quell.api.models import PathLike

Sample = dict[str, np.ndarray]
"""Field -> image as stored, (H, W) or (H, W, C)."""


class Shards(Sequence[Sample]):
    """The samples of one split, read when they are asked for; a slice is a view of some of them."""

    def __init__(self, shards: ShardSet, numbers: range | None = None) -> None:
        """Take an open split, and which of its samples these are; None: all."""
        self._shards = shards
        self._numbers = range(len(shards)) if numbers is None else numbers
        self._present = {name: shards.column(name)["kind"] != index.MISSING for name in shards.fields}

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the images that samples hold."""
        return tuple(self._shards.fields)

    @property
    def meta(self) -> dict[str, object]:
        """The builder's notes: data_range, source, sigma, licence, ..."""
        return dict(self._shards.meta)

    def key(self, number: int) -> str:
        """The name of a sample."""
        return self._shards.key(self._numbers[number])

    def notes(self, number: int) -> dict[str, object]:
        """What the builder noted about a sample."""
        return self._shards.json(self._numbers[number])

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, number: int) -> Sample: ...

    @overload
    def __getitem__(self, number: slice) -> Shards: ...

    def __getitem__(self, number: int | slice) -> Sample | Shards:
        """A sample, or a view of several. Raises IndexError beyond the last, DataError where it is damaged."""
        if isinstance(number, slice):
            return Shards(self._shards, self._numbers[number])
        try:
            sample = self._numbers[number]
        except IndexError:
            raise IndexError(f"sample {number} of {len(self)}") from None
        return {name: self._shards.read(sample, name) for name, present in self._present.items() if present[sample]}

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; they open again when a sample is read."""
        self._shards.files.close()

    def __repr__(self) -> str:
        return f"<quell.Shards {self._shards.path}: {len(self)} samples of {', '.join(self.fields)}>"


def open_shards(folder: PathLike, *, split: str | None = None) -> Shards:
    """Open a data set of shards.

    Args:
        folder: The folder or the URL of one split, such as runs/data/phantom/test, or with `split` that of the set.
        split: The split to open: train, val, test.

    Returns:
        Its samples.

    Raises:
        DataError: There are no shards, or they are damaged.
        MachineError: The index cannot be written, or the network does not work.
    """
    text = os.fspath(folder)
    if split is not None:
        text = f"{text.rstrip('/')}/{split}"
    if "://" in text:
        return Shards(ShardSet.open(text))
    path = paths.resolve(text)
    _refuse_whole_set(path)
    return Shards(ShardSet.open(path))


def _refuse_whole_set(path: Path) -> None:
    """DataError where a folder holds splits rather than shards."""
    splits = sorted(inner.parent.name for inner in path.glob(f"*/{index.HEADER}")) if path.is_dir() else []
    if splits and not any(path.glob("*.tar")):
        raise DataError(f"{path}: holds the splits {', '.join(splits)}: name one, as in split='{splits[0]}'")
