"""Metrics of a batch of restored images, where the images are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from configs.errors import DataError
from launch.evaluation.measuring.deferred_values import Measured
from launch.evaluation.measuring.metrics import Metric
from losses.metrics.common.batch_form import Values


class Pairs(NamedTuple):
    """Images to measure in stored units, real, in float32, on the device: see `stored_images`."""

    images: Tensor
    """(K, N, C, H, W): K images of each of N samples, what was restored and the noisy image."""
    clean: Tensor | None
    """(N, C, H, W): what they are compared with, if there is anything."""


def pairs_of(restored_NCHW: Tensor, noisy_NCHW: Tensor, clean_NCHW: Tensor | None) -> Pairs:
    """Restored and noisy images, and what both are compared with.

    Raises:
        DataError: Their shapes differ.
    """
    for other in (noisy_NCHW, clean_NCHW):
        if other is not None and other.shape != restored_NCHW.shape:
            shapes = [tuple(image.shape[1:]) for image in (restored_NCHW, other)]
            raise DataError(f"restored and clean image must have the same shape, got {shapes[0]} and {shapes[1]}")
    return Pairs(torch.stack([restored_NCHW, noisy_NCHW]), clean_NCHW)


def measure(
    pairs: Pairs, prefixes: Sequence[str], metrics: Mapping[str, Metric], data_range: float
) -> Iterator[Measured]:
    """The metrics that have a batch form; the values of every image of `pairs` are named `<prefix><metric>`.

    Raises:
        DataError: A metric cannot be computed of such images.
    """
    for name, metric in metrics.items():
        form = metric.batch_form
        if form is not None and pairs.clean is not None:
            numbers = form(pairs.images, pairs.clean, data_range)
            yield Measured(
                [f"{prefix}{name}" for prefix in prefixes], numbers, partial(_finished, form.finish, data_range)
            )


def _finished(finish: Callable[[Values, float], Values], data_range: float, numbers: Values) -> Values:
    """The values of a metric, of the numbers that the device returned."""
    return finish(numbers, data_range)
