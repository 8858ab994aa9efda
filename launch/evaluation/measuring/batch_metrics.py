"""Metrics of a batch of restored images, where the images are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from quell.configs.errors import DataError
from quell.launch.evaluation.measuring.deferred_values import Measured
from quell.launch.evaluation.measuring.metrics import Metric
from quell.launch.evaluation.measuring.stored_images import reference_field, relative_images
from quell.losses.metrics.common.batch_form import Values
from quell.pipelines.base import Batch, Output


def measure_outputs(
    outputs: Mapping[str, Output],
    batch: Batch,
    restored: Mapping[str, Tensor],
    metrics: Mapping[str, Metric],
    data_range: float,
    *,
    with_noisy: bool,
) -> Iterator[Measured]:
    """The metrics of every output, and `with_noisy` of its noisy image, as far as they compare in batches.

    What was restored from one noisy image is measured together: what it is compared with is shared.

    Raises:
        DataError: A metric cannot be computed of such images.
    """
    for field in dict.fromkeys(output.noisy for output in outputs.values()):
        own = [name for name, output in outputs.items() if output.noisy == field]
        for reference in dict.fromkeys(reference_field(outputs[name], batch) for name in own):
            if reference is None:
                continue
            names = [name for name in own if reference_field(outputs[name], batch) == reference]
            scale = batch[f"{field}_scale"]
            clean = relative_images(batch[reference], batch[f"{reference}_scale"], data_range)
            images = [relative_images(restored[name], scale, data_range) for name in names]
            prefixes: list[tuple[str, ...]] = [(f"{name}/",) for name in names]
            if with_noisy:
                images.append(relative_images(batch[field], scale, data_range))
                prefixes.append(tuple(f"{name}/noisy_" for name in names))
            yield from measure(_alike(images, clean), clean, prefixes, metrics, data_range)


def measure(
    images_KNCHW: Tensor,
    clean_NCHW: Tensor,
    prefixes: Sequence[tuple[str, ...]],
    metrics: Mapping[str, Metric],
    data_range: float,
) -> Iterator[Measured]:
    """The metrics that have a batch form.

    Args:
        images_KNCHW: Several images of every sample, see `relative_images`.
        clean_NCHW: What they are compared with.
        prefixes: Of each of the K images: its values are named `<prefix><metric>`.
        metrics: What to compute, by name.
        data_range: Range of the stored values.
    """
    measured: dict[Callable[[Tensor, Tensor], Tensor], Tensor] = {}  # several metrics are made of the same numbers
    for metric_name, metric in metrics.items():
        form = metric.batch_form
        if form is None:
            continue
        if form.measure not in measured:
            measured[form.measure] = form(images_KNCHW, clean_NCHW)
        names = [tuple(f"{prefix}{metric_name}" for prefix in own) for own in prefixes]
        yield Measured(names, measured[form.measure], partial(_finished, form.finish, data_range))


def _alike(images: list[Tensor], clean: Tensor) -> Tensor:
    """The images in one tensor; DataError where their shape is not that of the clean image."""
    for image in images:
        if image.shape != clean.shape:
            shapes = [tuple(x.shape[1:]) for x in (image, clean)]
            raise DataError(f"restored and clean image must have the same shape, got {shapes[0]} and {shapes[1]}")
    return torch.stack(images)


def _finished(finish: Callable[[Values, float], Values], data_range: float, numbers: Values) -> Values:
    """The values of a metric, of the numbers that the device returned."""
    return finish(numbers, data_range)
