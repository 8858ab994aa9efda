"""Loading, checking and encoding work items, in parallel and in order."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from configs.errors import DataError
from shards.building.items import Sample, WorkItem
from shards.building.writer import EncodedSample, encode_sample


def read_items(items: Sequence[WorkItem], workers: int) -> Iterator[list[EncodedSample]]:
    """Yield the encoded samples of each item, in the order of the items; threads load a few items ahead."""
    pending: deque[Future[list[EncodedSample]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="quell-build") as pool:
        try:
            remaining = iter(items)
            pending.extend(pool.submit(_load, item) for item in itertools.islice(remaining, workers * 2))
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(_load, item) for item in itertools.islice(remaining, 1))
        finally:
            for future in pending:
                future.cancel()


def _load(item: WorkItem) -> list[EncodedSample]:
    try:
        samples = item.load()
    except (OSError, ValueError, KeyError, EOFError) as error:
        names = ", ".join(str(path) for path in item.files) or item.key
        raise DataError(f"{names}: cannot be read ({error})") from error
    for sample in samples:
        _check(item, sample)
    return [_encode(item, sample) for sample in samples]


def _check(item: WorkItem, sample: Sample) -> None:
    if "." in sample.key or not sample.key:
        raise DataError(f"{item.key}: sample key {sample.key!r}: expected text without dots, which end a key")
    for name, value in sample.members.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fc" and not np.isfinite(value).all():
            raise DataError(
                f"{item.key}: sample {sample.key}: {name} holds NaN or Inf; repair the file or leave it out"
            )


def _encode(item: WorkItem, sample: Sample) -> EncodedSample:
    return encode_sample(sample.key, {**sample.members, "json": {"group": item.group, **sample.metadata}})
