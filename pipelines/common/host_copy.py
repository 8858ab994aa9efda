"""Values of a buffer on the host, without a device synchronisation at every step."""

from torch import Tensor


class Unchanged:
    """Whether buffers are those seen last, and hold what they held then.

    A buffer's version counter lives on the host and increases with every in-place change, loading a checkpoint
    included. Other buffers, such as those of a module that has moved to another device, count from zero again.
    """

    def __init__(self) -> None:
        self._seen: tuple[tuple[Tensor, int], ...] = ()

    def since_last(self, *buffers: Tensor) -> bool:
        """Whether the last call had these buffers, at this version."""
        before, self._seen = self._seen, tuple((buffer, buffer._version) for buffer in buffers)
        return len(before) == len(buffers) and all(
            old is new and old_version == new_version
            for (old, old_version), (new, new_version) in zip(before, self._seen, strict=True)
        )


class HostCopy:
    """The values of a buffer on the CPU, read once per change: reading a GPU tensor waits for the device."""

    def __init__(self) -> None:
        self._is_unchanged, self._values = Unchanged(), [0.0]

    def of(self, buffer: Tensor) -> list[float]:
        """The buffer's current values."""
        if not self._is_unchanged.since_last(buffer):
            self._values = buffer.tolist()
        return self._values
