"""Memory of batches, used again once no tensor refers to it: fresh pages cost as much as reading the pixels."""

import sys
import threading

import numpy as np
import torch

KEPT_BATCHES = 8
"""Batches whose memory is kept; a consumer that holds on to more gets fresh memory."""
_DTYPES = {torch.float32: np.float32, torch.complex64: np.complex64}


class BufferPool:
    """Hands out tensors to be filled, in memory that no living tensor uses; safe from several threads.

    There is no call that gives memory back: a consumer may keep a batch, or a view or a detached copy of it, for as
    long as it likes. A tensor made by `torch.from_numpy` holds a reference to the array as long as any view of its
    storage lives, so the array's reference count tells when its memory is free. Page-locked memory is recycled by
    torch itself, which waits until the copies to a device that read it have ended.

    Args:
        tensors: Tensors of a batch.
        reuse: Whether memory is kept at all.
        pin: Whether tensors are in page-locked memory.
    """

    def __init__(self, tensors: int, *, reuse: bool, pin: bool) -> None:
        self._max_kept, self._reuse, self._pin = tensors * KEPT_BATCHES, reuse and not pin, pin
        self._arrays: dict[tuple[object, ...], list[np.ndarray]] = {}
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of undefined content, float32 or complex64."""
        if not self._reuse:
            return torch.empty(shape, dtype=dtype, pin_memory=self._pin)
        with self._lock:
            arrays = self._arrays.setdefault((shape, dtype), [])
            for i in range(len(arrays)):  # by index: a loop variable would be one more reference
                if sys.getrefcount(arrays[i]) <= 2:  # the list's reference and that of getrefcount's argument
                    return torch.from_numpy(arrays[i])
            array = np.empty(shape, _DTYPES[dtype])
            if len(arrays) < self._max_kept:
                arrays.append(array)
            return torch.from_numpy(array)

    def copied(self, values: np.ndarray) -> torch.Tensor:
        """A few numbers as a tensor; page-locked like the images, or the copy to a device would wait for it."""
        tensor = torch.from_numpy(np.array(values))
        return tensor.pin_memory() if self._pin else tensor
