"""Hints for a name that does not exist."""

import difflib


def did_you_mean(name: str, known: list[str]) -> str:
    """A hint naming the nearest known name, or all of them when none is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
