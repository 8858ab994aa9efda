"""Loading, checking and encoding work items, in parallel and in order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from quell.configs.errors import DataError, MachineError, QuellError
from quell.configs.support import logs
from quell.configs.support.worker_threads import map_ordered
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.writer import EncodedSample, encode_sample
from quell.shards.listing.finite import NotFiniteError, check_finite
from quell.shards.listing.left_out import LeftOut, collect, leave_out

Change = Callable[[WorkItem, Sample], Sample]
"""What a build does to every sample: resizing it, comparing it with the declared range."""

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class LoadedItem:
    """What a worker makes of an item."""

    samples: list[EncodedSample]
    left_out: list[LeftOut]


def read_items(
    items: Sequence[WorkItem], workers: int, *, changes: Sequence[Change] = (), skip_damaged: bool = False
) -> Iterator[LoadedItem]:
    """Yield the encoded samples of each item, in the order of the items; threads load a few items ahead.

    Args:
        items: The work items.
        workers: Number of threads.
        changes: Applied to every sample, one after the other.
        skip_damaged: Leave out items that cannot be read and samples with NaN or Inf, instead of raising.

    Raises:
        DataError: An item cannot be read or used.
        MachineError: The memory is exhausted.
    """
    yield from map_ordered(partial(_load_and_encode, changes, skip_damaged), items, workers)


def load_item(item: WorkItem) -> list[Sample]:
    """The samples of an item. Raises DataError for whatever its source, or a library that it uses, may raise."""
    try:
        return item.load()
    except QuellError:
        raise
    except MemoryError as error:
        raise MachineError(f"{_names(item)}: not enough memory to read this; use fewer --workers") from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{_names(item)}: cannot be read ({error})") from error
    except Exception as error:  # decoders raise anything on damaged files, and a build must end with a sentence
        log.debug("%s", _names(item), exc_info=True)
        raise DataError(f"{_names(item)}: cannot be read ({type(error).__name__}: {error})") from error


def _load_and_encode(changes: Sequence[Change], skip_damaged: bool, item: WorkItem) -> LoadedItem:
    with collect() as left_out:
        samples = _load(item, skip_damaged)
        encoded = []
        for sample in samples:
            for change in changes:
                sample = change(item, sample)
            encoded.append(encode_sample(sample.key, {**sample.members, "json": _notes(item, sample)}))
    return LoadedItem(encoded, left_out)


def _load(item: WorkItem, skip_damaged: bool) -> list[Sample]:
    """The samples of an item after checking them; without those that are damaged where they are to be skipped."""
    try:
        samples = load_item(item)
    except DataError as error:
        if not skip_damaged:
            raise
        kind = "file with NaN or Inf" if isinstance(error, NotFiniteError) else "unreadable file"
        leave_out(kind, _names(item), str(error))
        return []
    usable = []
    for sample in samples:
        try:
            _check(item, sample)
            usable.append(sample)
        except DataError as error:
            if not skip_damaged:
                raise
            leave_out("sample with NaN or Inf", sample.key, str(error))
    return usable


def _check(item: WorkItem, sample: Sample) -> None:
    if "." in sample.key or not sample.key:
        raise DataError(f"{item.key}: sample key {sample.key!r}: expected text without dots, which end a key")
    for name, value in sample.members.items():
        if isinstance(value, np.ndarray):
            files = f" (read from {_names(item)})" if item.files else ""
            check_finite(value, f"sample {sample.key}: {name}{files}")


def _notes(item: WorkItem, sample: Sample) -> dict[str, object]:
    return {"group": item.group, **sample.metadata}


def _names(item: WorkItem) -> str:
    return ", ".join(str(path) for path in item.files) or item.key
