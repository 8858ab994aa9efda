"""Batches on the training device, copied one step ahead of the step that trains on them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch

from quell.launch.data.loading import to_device
from quell.pipelines.base import Batch


class BatchSource(Protocol):
    """A loader, as this module uses it."""

    @property
    def is_ready(self) -> bool:
        """Whether the next step's batches could be had without waiting."""

    def __iter__(self) -> Iterator[list[Batch]]: ...


class _Copied(NamedTuple):
    """Micro-batches whose copies have been queued, and what tells that they have ended."""

    batches: list[Batch]
    ended: torch.cuda.Event | None


class DeviceBatches:
    """The micro-batches of each step, on a device.

    On CUDA they are copied by a stream of their own, so that the copy runs while the step before is computed, instead
    of after it: when a step's batches are handed out, the next step's are queued for copying if the loader has them
    ready. Nothing waits for a batch before it is needed, so that the loader's waiting time stays what training waits
    for. Training's stream waits for the copy, not the host. The copies read page-locked memory, which torch gives out
    again only after the stream that read it has passed; `record_stream` does the same for the memory on the device.

    Args:
        source: The loader.
        device: Where the batches go. On others than CUDA they are moved when they are asked for.
        extras: Further tensors of a batch, made on the host.
    """

    def __init__(
        self, source: BatchSource, device: torch.device, extras: Callable[[Batch], Batch] = lambda batch: {}
    ) -> None:
        self._source, self._device, self._extras = source, device, extras
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __iter__(self) -> Iterator[list[Batch]]:
        batches = iter(self._source)
        ahead: _Copied | None = None
        failure: Exception | None = None
        while failure is None:
            current = ahead or self._copied(next(batches, None))
            ahead = None
            if current is None:
                return
            if self._stream is not None and self._source.is_ready:
                try:
                    ahead = self._copied(next(batches, None))
                except Exception as error:  # it belongs to the next step: this one is trained first
                    failure = error
            yield self._handed_over(current)
            del current  # the step has ended: its memory is free for the batches after the next
        raise failure

    def _copied(self, host: list[Batch] | None) -> _Copied | None:
        """Queue the copies of a step's micro-batches; None after the last step."""
        if host is None:
            return None
        # extras first: what is not page-locked may wait for the copies queued before it
        complete = [self._extras(batch) | batch for batch in host]
        if self._stream is None:
            return _Copied([to_device(batch, self._device) for batch in complete], None)
        with torch.cuda.stream(self._stream):
            batches = [to_device(batch, self._device) for batch in complete]
            return _Copied(batches, self._stream.record_event())

    def _handed_over(self, copied: _Copied) -> list[Batch]:
        """The batches, for the stream that trains: it waits for the copy, and their memory waits for it."""
        if copied.ended is not None:
            training = torch.cuda.current_stream(self._device)
            training.wait_event(copied.ended)
            for batch in copied.batches:
                for value in batch.values():
                    if torch.is_tensor(value):
                        value.record_stream(training)
        return copied.batches
