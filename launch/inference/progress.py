"""Progress over many files: a bar where someone watches, and lines with the time left in a log file."""

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm

INTERVAL_S = 10.0
"""Seconds between two lines in a log file."""

_Item = TypeVar("_Item")


def followed(items: list[_Item], what: str, *, quiet: bool = False) -> Iterator[_Item]:
    """The items, while stderr shows how many are done and how long the others will take; nothing for a single one.

    Args:
        items: What is worked through.
        what: What is done to them, such as "restoring".
        quiet: Whether to show nothing.
    """
    if quiet or len(items) < 2:
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, what, unit="file")
    else:
        yield from _logged(items, what)


def _logged(items: list[_Item], what: str) -> Iterator[_Item]:
    """A line after the first item, every INTERVAL_S seconds, and after the last."""
    start = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if done in (1, len(items)) or now - shown >= INTERVAL_S:
            shown = now
            left = timedelta(seconds=round((now - start) / done * (len(items) - done)))
            print(f"{what}: {done} of {len(items)} files, ETA {left}", file=sys.stderr, flush=True)
