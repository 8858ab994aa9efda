"""Images of a batch in the units of the shards, one or all, and what they are compared with."""

import numpy as np
import torch
from torch import Tensor

from quell.losses.metrics.common.images import checked_range
from quell.pipelines.base import Batch, Output


def reference_field(output: Output, batch: Batch) -> str | None:
    """The field that an output is compared with: the clean image, else a second noisy copy, else none."""
    return next((name for name in output.references if name in batch), None)


def stored_image(image_CHW: Tensor, scale: Tensor | float = 1.0) -> np.ndarray:
    """A batch image in stored units, as metrics and pictures take it.

    Args:
        image_CHW: Real or complex; two channels are the real and the imaginary part.
        scale: What the image was divided by in the batch (`<field>_scale`).

    Returns:
        float64, (H, W) for one channel and for the magnitude of complex images, (H, W, C) for colour.
    """
    image = image_CHW.detach().cpu()
    array = image.to(torch.complex128 if image.is_complex() else torch.float64).numpy() * float(scale)
    if np.iscomplexobj(array):
        array = np.abs(array)
    elif array.shape[0] == 2:
        array = np.hypot(array[0], array[1])[None]
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def relative_images(image_NCHW: Tensor, scale_N111: Tensor, data_range: float) -> Tensor:
    """Images of a batch divided by the data range, as batch forms of metrics take them, (N, C, H, W) in float32.

    Args:
        image_NCHW: Real, or complex, of which the magnitude is taken; two channels are real and imaginary part.
        scale_N111: What each image was divided by in the batch.
        data_range: Range of the stored values.
    """
    factor = scale_N111.to(image_NCHW.device, torch.float32) / checked_range(data_range)
    if image_NCHW.is_complex():
        parts = image_NCHW.real, image_NCHW.imag
    elif image_NCHW.shape[1] == 2:
        parts = image_NCHW[:, :1], image_NCHW[:, 1:]
    else:
        return image_NCHW.float() * factor
    real, imaginary = (part.float() * factor for part in parts)
    return real.square_().addcmul_(imaginary, imaginary).sqrt_()
