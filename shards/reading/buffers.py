"""Batch memory used again once nobody holds the last batch in it: fresh pages cost as much as reading the pixels."""

import sys

import numpy as np
import torch

MOST = 12
"""Buffers of one shape kept; a consumer that holds on to more batches gets fresh memory."""
_DTYPES = {torch.float32: np.float32, torch.complex64: np.complex64}


class Buffers:
    """Gives tensors to be filled. A tensor made from an array keeps a reference to it as long as any view of its memory
    lives, so the array's reference count says when the memory is free.
    """

    def __init__(self, *, reuse: bool, pin: bool) -> None:
        self._reuse, self._pin = reuse and not pin, pin  # torch recycles pinned memory itself
        self._arrays: dict[tuple[object, ...], list[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A tensor whose content is undefined and whose memory no other living tensor has."""
        if not self._reuse:
            return torch.empty(shape, dtype=dtype, pin_memory=self._pin)
        arrays = self._arrays.setdefault((shape, dtype), [])
        for place in range(len(arrays)):
            if sys.getrefcount(arrays[place]) <= 2:  # the list's reference and the argument's
                return torch.from_numpy(arrays[place])
        array = np.empty(shape, _DTYPES[dtype])
        if len(arrays) < MOST:
            arrays.append(array)
        return torch.from_numpy(array)
