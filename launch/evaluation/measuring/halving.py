"""Batches that do not fit into a device's memory are measured in halves."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from quell.configs.support.logs import get_logger
from quell.launch.machine.out_of_memory import is_out_of_memory
from quell.pipelines.base import Batch

log = get_logger(__name__)

Result = TypeVar("Result")


class Halving:
    """Applies a function to batches; once the memory has not sufficed, to halves of this and of all later batches."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._largest: int | None = None
        """Images that fit, once that is known to be fewer than a batch has."""

    def apply(self, function: Callable[[Batch], Result], batch: Batch) -> Iterator[Result]:
        """Yield what the function returns for the batch, or for its halves.

        Raises:
            RuntimeError, MemoryError: The memory does not suffice for one image, or for half of a batch.
        """
        for part in parts(batch, self._largest):
            try:
                result = function(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._largest is not None or len(part["key"]) == 1:
                    raise
            else:
                yield result
                continue
            # outside of the handler, whose traceback keeps the tensors alive
            self._halve(len(part["key"]))
            for half in parts(part, self._largest):
                yield function(half)

    def _halve(self, images: int) -> None:
        self._largest = (images + 1) // 2
        log.warning(
            f"{images} images do not fit into the device's memory together: evaluating {self._largest} at a time; "
            "set data.eval_batch_size lower"
        )
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def parts(batch: Batch, largest: int | None) -> Iterator[Batch]:
    """The batch in parts of so many images, one after the other; None keeps it whole."""
    images = len(batch["key"])
    step = images if largest is None else largest
    for start in range(0, images, step):
        if step >= images:
            yield batch
        else:
            yield {
                name: value[start : start + step] if _is_per_image(value, images) else value
                for name, value in batch.items()
            }


def _is_per_image(value: object, images: int) -> bool:
    """Whether the first axis of an entry of a batch counts images."""
    if torch.is_tensor(value):
        return value.ndim > 0 and len(value) == images
    return isinstance(value, list | tuple) and len(value) == images
