"""Which members must be verified before they are used."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

Verify = Literal["first", "always", "never"]
"""When a member is verified (checksum, NaN, Inf): at a loader's first read of it, at every read, or never."""


class Verification:
    """Remembers what has been verified; safe from several threads, of which two may verify the same member.

    Args:
        verify: When members are verified.
        members: Names of the members that are read.
        samples: Number of samples of the split.
    """

    def __init__(self, verify: Verify, members: Iterable[str], samples: int) -> None:
        self._verify = verify
        self._done = {member: np.zeros(samples if verify == "first" else 0, dtype=bool) for member in members}

    def is_due(self, member: str, sample: int) -> bool:
        """Whether this read of a member must verify it."""
        return not self._done[member][sample] if self._verify == "first" else self._verify == "always"

    def is_done(self, member: str, samples: np.ndarray) -> np.ndarray:
        """Whether each of several samples (n,) needs no verification."""
        if self._verify == "first":
            return self._done[member][samples]
        return np.full(len(samples), self._verify == "never")

    def done(self, member: str, sample: int) -> None:
        """Note that a member has been verified."""
        if self._verify == "first":
            self._done[member][sample] = True
