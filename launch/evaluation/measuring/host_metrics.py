"""Metrics of single images on numpy arrays."""

import numpy as np
from torch import Tensor

from quell.launch.evaluation.measuring.metrics import Metric
from quell.launch.evaluation.measuring.stored_images import reference_field, stored_image
from quell.pipelines.base import Batch, Output


def measure_images(
    images: dict[str, np.ndarray],
    clean: np.ndarray | None,
    noisy: np.ndarray,
    *,
    data_range: float,
    metrics: dict[str, Metric],
) -> dict[str, float]:
    """The metrics of several restorations of one noisy image, those left out that need a clean image and have none.

    The keys of `images` are prefixes: `{"restored/": image}` gives `restored/psnr` and so on.
    """
    values = {
        f"{prefix}{name}": metric(image, clean, noisy=noisy, data_range=data_range)
        for name, metric in metrics.items()
        for prefix, image in images.items()
    }
    return {name: value for name, value in values.items() if value is not None}


def measure_output(
    batch: Batch,
    restored_NCHW: Tensor,
    name: str,
    output: Output,
    i: int,
    data_range: float,
    metrics: dict[str, Metric],
) -> dict[str, float]:
    """Metrics of one output of sample i, and of its noisy image, on arrays."""
    reference = reference_field(output, batch)
    scale = batch[f"{output.noisy}_scale"][i]
    clean = stored_image(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
    noisy = stored_image(batch[output.noisy][i], scale)
    images = {f"{name}/": stored_image(restored_NCHW[i], scale), f"{name}/noisy_": noisy}
    return measure_images(images, clean, noisy, data_range=data_range, metrics=metrics)
