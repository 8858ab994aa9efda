"""What a method reads from its buffers on the host, without a device synchronisation at every step."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class HostCopy(Generic[T]):
    """What `read` makes of buffers of a method, read once per change: reading a GPU tensor waits for the device.

    A buffer's version counter lives on the host and increases with every in-place change, loading a checkpoint
    included. Other buffers, such as those of a module that has moved to another device, count from zero again. A
    compiled loss takes what `refresh`, called before it, has read, and is compiled again where that changes.
    """

    def __init__(self, method: nn.Module, *names: str, read: Callable[..., T], absent: T) -> None:
        """Read the buffers `names` of a method by `read(*buffers)`; `absent` is the value while one is missing."""
        self._method, self._names, self._read = method, names, read
        self._value = self._absent = absent
        self._seen: list[tuple[Tensor, int]] = []

    @property
    def value(self) -> T:
        """What the buffers hold now."""
        if not torch.compiler.is_compiling():
            self.refresh()
        return self._value

    def refresh(self) -> None:
        """Read the buffers again if they have changed."""
        if not all(hasattr(self._method, name) for name in self._names):
            self._seen, self._value = [], self._absent
            return
        buffers = [self._method.get_buffer(name) for name in self._names]
        if len(self._seen) == len(buffers) and all(
            old is new and version == new._version for (old, version), new in zip(self._seen, buffers, strict=True)
        ):
            return
        self._seen = [(buffer, buffer._version) for buffer in buffers]
        self._value = self._read(*buffers)
