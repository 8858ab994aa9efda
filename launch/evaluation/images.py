"""Pictures of a validation sample: noisy | restored | clean | error, side by side."""

import numpy as np
from torch import Tensor

from quell.launch.evaluation.measuring.stored_images import reference_field, stored_image
from quell.pipelines.base import Batch, Pipeline

GAP_PX = 4

ERROR_GAIN = 4
"""Factor by which errors are brightened, to be visible."""


def strips(
    pipeline: Pipeline, batch: Batch, restored: dict[str, Tensor], i: int, data_range: float
) -> dict[str, np.ndarray]:
    """Show sample i of a batch, one strip per output: noisy | restored | reference, if there is one | 4 x the error.

    Returns:
        Output name -> uint8 (H, W, 3). Without a reference the last picture shows what was removed from the noisy one.
    """
    by_output = {}
    for name, output in pipeline.outputs.items():
        scale = batch[f"{output.noisy}_scale"][i]
        images = [stored_image(batch[output.noisy][i], scale), stored_image(restored[name][i], scale)]
        reference = reference_field(output, batch)
        target = stored_image(batch[reference][i], scale) if reference else images[0]
        if reference:
            images.append(target)
        images.append(ERROR_GAIN * np.abs(images[1] - target))
        by_output[name] = side_by_side([to_uint8(image, data_range) for image in images])
    return by_output


def to_uint8(image: np.ndarray, data_range: float) -> np.ndarray:
    """(H, W) or (H, W, C) in stored units to uint8 (H, W, 3): 0 is black and `data_range` white."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    return (np.clip(image[..., :3] / data_range, 0, 1) * 255).round().astype(np.uint8)


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Join pictures of equal height in a row, with white gaps."""
    gap = np.full((images[0].shape[0], GAP_PX, 3), 255, np.uint8)
    row: list[np.ndarray] = []
    for image in images:
        row += [image, gap]
    return np.concatenate(row[:-1], axis=1)
