"""Pictures of a validation sample: noisy | restored | clean | error, side by side."""

import numpy as np
from torch import Tensor

from launch.evaluation.evaluator import reference_field, stored_image
from pipelines.base import Batch, Pipeline

GAP_PX = 4


def strips(
    pipeline: Pipeline, batch: Batch, restored: dict[str, Tensor], i: int, range_: float
) -> dict[str, np.ndarray]:
    """One uint8 (H, W, 3) strip per output of sample i: noisy | restored | clean if known | 4 x the error."""
    out = {}
    for name, output in pipeline.outputs.items():
        scale = batch[f"{output.noisy}_scale"][i]
        images = [stored_image(batch[output.noisy][i], scale), stored_image(restored[name][i], scale)]
        reference = reference_field(output, batch)
        against = stored_image(batch[reference][i], scale) if reference else images[0]
        if reference:
            images.append(against)
        images.append(4 * np.abs(images[1] - against))
        out[name] = side_by_side([to_uint8(image, range_) for image in images])
    return out


def to_uint8(image: np.ndarray, range_: float) -> np.ndarray:
    """(H, W) or (H, W, C) in stored units -> uint8 (H, W, 3), 0 black and `range_` white."""
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    return (np.clip(image[..., :3] / range_, 0, 1) * 255).round().astype(np.uint8)


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Pictures of equal height in a row, with white gaps."""
    gap = np.full((images[0].shape[0], GAP_PX, 3), 255, np.uint8)
    row: list[np.ndarray] = []
    for image in images:
        row += [image, gap]
    return np.concatenate(row[:-1], axis=1)
