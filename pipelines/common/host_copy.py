"""Values of a buffer on the host, without a device synchronisation at every step."""

from torch import Tensor


class HostCopy:
    """The values of a buffer on the CPU, read from the device once per change of the buffer.

    Reading a GPU tensor waits for the device. A buffer's version counter lives on the host and increases with every
    in-place change, loading a checkpoint included.
    """

    def __init__(self) -> None:
        self._version, self._values = -1, [0.0]

    def of(self, buffer: Tensor) -> list[float]:
        """The buffer's current values."""
        if self._version != buffer._version:
            self._version, self._values = buffer._version, buffer.tolist()
        return self._values
