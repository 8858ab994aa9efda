"""Copies of a training state that a thread may read while training goes on, in memory that every copy uses again."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from quell.launch.machine import devices

T = TypeVar("T")

Layout = list[tuple[torch.dtype, torch.Size, tuple[int, ...]]]
"""Of each tensor: type, shape and strides."""

ALIGNMENT = 64
"""Bytes at which each tensor begins, as torch's own do."""


class Snapshots:
    """Takes copies of a nested state, one at a time, in one block of host memory.

    New memory costs the kernel several times as long as copying into it, hence the block is kept: as large as the
    state, as long as this object lives. Tensors of a device are copied there first, and from there to the block, which
    is page-locked, by a stream of their own: the training thread only enqueues copies.
    """

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._copies: list[Tensor] = []
        self._allocation: threading.Thread | None = None

    def reserve(self, state: object) -> None:
        """Allocate, in a thread, the memory for copies of states like this one."""
        layout, pinned = layout_of(tensors := list(tensors_in(state))), any(not tensor.is_cpu for tensor in tensors)

        def allocate() -> None:
            with suppress(RuntimeError, MemoryError):  # where memory is short, taking the copy says so
                self._allocate(layout, pinned=pinned)

        self._join()
        self._allocation = threading.Thread(target=allocate, name="quell-snapshot-memory")
        self._allocation.start()

    def take(self, state: T) -> Callable[[], T]:
        """Copy this moment's tensors, and the containers around them.

        Args:
            state: Tensors and plain values in dicts, lists and tuples.

        Returns:
            A function for any thread that returns the copy, which is valid until the next one is taken.
        """
        self._join()
        tensors = list(tensors_in(state))
        sources = {tensor.device for tensor in tensors if not tensor.is_cpu}
        if (layout := layout_of(tensors)) != self._layout:
            self._allocate(layout, pinned=bool(sources))
        remaining = iter(self._copies)
        copied = rebuilt(state, lambda _: next(remaining))
        pending: list[tuple[Tensor, Tensor]] = []
        for tensor, copy in zip(tensors, self._copies, strict=True):
            if tensor.is_cpu:
                copy.copy_(tensor.detach())
            else:
                pending.append((copy, tensor.detach().clone()))
        fetches = [fetching(device, [pair for pair in pending if pair[1].device == device]) for device in sources]

        def finish() -> T:
            while fetches:
                fetches.pop()()
            return copied

        return finish

    def _allocate(self, layout: Layout, *, pinned: bool) -> None:
        """Make one tensor of each kind, side by side in one block; each has a storage of its own, as files need it."""
        self._layout, self._copies = None, []
        places, size = [], 0
        for dtype, shape, _ in layout:
            places.append(size)
            size += -(-shape.numel() * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        block = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned).numpy()  # filled: the kernel's work is done now
        for (dtype, shape, strides), place in zip(layout, places, strict=True):
            if not shape.numel():
                self._copies.append(torch.empty(shape, dtype=dtype))
                continue
            flat = torch.frombuffer(block, dtype=dtype, count=shape.numel(), offset=place)
            self._copies.append(flat.as_strided(shape, strides))
        self._layout = layout

    def _join(self) -> None:
        if self._allocation is not None:
            self._allocation.join()
            self._allocation = None


def fetching(device: torch.device, pairs: Sequence[tuple[Tensor, Tensor]]) -> Callable[[], None]:
    """What copies (copy, original) pairs from a device, once it has computed the originals, without its computing.

    The function is for any thread; it returns when the copies are complete. Until then it keeps the originals.
    """
    module = devices.module_of(device)
    if not hasattr(module, "Stream"):

        def fetch_in_order() -> None:
            for copy, original in pairs:
                copy.copy_(original)

        return fetch_in_order

    computed = module.Event()
    computed.record()

    def fetch() -> None:
        stream, fetched = module.Stream(device), module.Event()
        with module.stream(stream):
            stream.wait_event(computed)
            for copy, original in pairs:
                copy.copy_(original, non_blocking=True)
            fetched.record(stream)
        fetched.synchronize()

    return fetch


def cloned(state: T) -> T:
    """A copy in memory of its own: tensors cloned on their device, containers copied, the rest as it is."""
    return rebuilt(state, lambda tensor: tensor.detach().clone())


def tensors_in(state: object) -> Iterator[Tensor]:
    """The tensors in nested containers, in a fixed order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from tensors_in(value)


def rebuilt(state: T, replace: Callable[[Tensor], Tensor]) -> T:
    """The same containers, new, with every tensor replaced, in the order of `tensors_in`."""
    value: Any = state
    if isinstance(value, Tensor):
        value = replace(value)
    elif isinstance(value, dict):
        value = {key: rebuilt(inner, replace) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        value = type(value)(rebuilt(inner, replace) for inner in value)
    return cast(T, value)


def layout_of(tensors: Sequence[Tensor]) -> Layout:
    """Type, shape and strides of copies of these tensors; one that is no dense block is copied into one."""
    return [
        (
            tensor.dtype,
            tensor.shape,
            tensor.stride() if tensor.is_contiguous() else torch.empty_like(tensor, device="meta").stride(),
        )
        for tensor in tensors
    ]
