"""Values of images that a device may still be computing: read in few transfers, long after they were asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]

MOST = 1024
"""Tensors that may wait to be read; each takes at least 512 bytes of a GPU."""


@dataclass(frozen=True)
class Measured:
    """What a device measured of a batch of N images."""

    names: Sequence[tuple[str, ...]]
    """Names of each of the K values of every image; one value may have several."""
    numbers: Tensor
    """What the values are made of, (..., K, N)."""
    finish: Callable[[Values], Values] | None = None
    """What makes them of `numbers` on the host; None where they are the values."""


class DeferredValues:
    """Collects what was measured, and fills it into the images' dictionaries of values.

    Reading a value waits for the device, which in the meantime could have worked on the next batch.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[Measured, Sequence[dict[str, float]]]] = []

    def add(self, measured: Measured, images: Sequence[dict[str, float]]) -> None:
        """Note values of these images: their names now, the numbers when they are read."""
        for values in images:
            values |= dict.fromkeys((name for own in measured.names for name in own), math.nan)
        self._waiting.append((measured, images))
        if len(self._waiting) >= MOST:
            self.read()

    def read(self) -> None:
        """Fill in all values, with one transfer from each device."""
        kinds = {(entry.numbers.device, entry.numbers.dtype) for entry, _ in self._waiting}
        for kind in kinds:
            entries = [entry for entry in self._waiting if (entry[0].numbers.device, entry[0].numbers.dtype) == kind]
            flat = torch.cat([measured.numbers.flatten() for measured, _ in entries]).cpu().double()
            for part, (measured, images) in zip(
                flat.split([measured.numbers.numel() for measured, _ in entries]), entries, strict=True
            ):
                numbers = part.view(measured.numbers.shape).numpy()
                _fill(measured, numbers, images)
        self._waiting.clear()


def _fill(measured: Measured, numbers: Values, images: Sequence[dict[str, float]]) -> None:
    values_KN = measured.finish(numbers) if measured.finish is not None else numbers
    for names, values_N in zip(measured.names, values_KN, strict=True):
        for image, value in zip(images, values_N.tolist(), strict=True):
            image |= dict.fromkeys(names, value)
