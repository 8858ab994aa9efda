"""The account of what is left out: dark slices, broken links, files without a partner, and so on.

Code that leaves something out calls `leave_out`. Whoever wants to know, such as a builder, collects the entries of a
piece of work with `collect`; elsewhere the call does nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

HARMLESS = ("junk file", "text file")
"""Kinds that hold no image: counted and named like the others, but no reason for --strict to refuse."""
SHOWN = 10
"""Names of one kind that a sentence lists."""


@dataclass(frozen=True)
class LeftOut:
    """One thing that was left out."""

    kind: str
    """What it is, in the singular: 'dark slice', 'broken link', 'file without partner'."""
    what: str
    """Its name: a path, or the key of a sample."""
    why: str = ""
    """The reason, where the kind does not say it."""


_entries: ContextVar[list[LeftOut] | None] = ContextVar("left_out", default=None)


def leave_out(kind: str, what: object, why: str = "") -> None:
    """Note that something is left out; see `LeftOut`."""
    entries = _entries.get()
    if entries is not None:
        entries.append(LeftOut(kind, str(what), why))


@contextmanager
def collect() -> Iterator[list[LeftOut]]:
    """Collect what this thread leaves out within the `with` block."""
    entries: list[LeftOut] = []
    token = _entries.set(entries)
    try:
        yield entries
    finally:
        _entries.reset(token)


def noted() -> list[LeftOut]:
    """What has been collected so far, each entry once; empty where nobody collects."""
    return list(dict.fromkeys(_entries.get() or ()))


def counts(entries: Iterable[LeftOut]) -> dict[str, int]:
    """Kind -> how many, the most frequent first."""
    numbers: dict[str, int] = {}
    for entry in entries:
        numbers[entry.kind] = numbers.get(entry.kind, 0) + 1
    return dict(sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0])))


def sentences(entries: Iterable[LeftOut], shown: int = SHOWN) -> list[str]:
    """One sentence for each kind: how many, and the names of the first `shown`."""
    unique = list(dict.fromkeys(entries))
    lines = []
    for kind, count in counts(unique).items():
        of_kind = [entry for entry in unique if entry.kind == kind]
        names = [f"{entry.what} ({entry.why})" if entry.why else entry.what for entry in of_kind[:shown]]
        rest = f" and {count - shown} more" if count > shown else ""
        lines.append(f"{count} {kind if count == 1 else plural(kind)}: {', '.join(names)}{rest}")
    return lines


def plural(kind: str) -> str:
    """The plural of a kind: 'broken links', 'files without partner', 'slices without position'."""
    for inside in (" without ", " of ", " with "):
        head, found, rest = kind.partition(inside)
        if found:
            return f"{plural(head)}{found}{rest}"
    return f"{kind}s"
