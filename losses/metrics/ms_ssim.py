"""Multi-scale structural similarity."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as torch_ms_ssim
from torch import Tensor

from quell.configs.errors import DataError
from quell.losses.common.separable_filters import gaussian_taps
from quell.losses.metrics.common.batch_form import BatchForm, within_float32, worst_unless_finite
from quell.losses.metrics.common.images import checked_pair, checked_range, is_finite
from quell.losses.metrics.common.structure import SIGMA_PX, dissimilarities
from quell.losses.msssim import SCALE_WEIGHTS

HALVINGS = 4
LARGEST_WINDOW_PX = 11
SMALLEST_PX = 2 * 2**HALVINGS + 1


def ms_ssim(
    restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float, window_px: int | None = None
) -> float:
    """Multi-scale structural similarity over five scales, averaged over channels; larger is better.

    Gaussian window of sigma 1.5, scale weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333. Values of different windows are
    not comparable.

    Args:
        restored: Image (H, W) or (H, W, C), more than 32 px a side.
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have; the stabilising
            constants scale with it.
        window_px: Odd side of the window; None takes 11 px, or the largest that fits a smaller image (`window_for`).

    Returns:
        The similarity in [0, 1]; exactly 0 if structure is anticorrelated at some scale (negative contrast term), and
        for a restored image that is not finite.

    Raises:
        DataError: The images do not fit together or are too small for the window, or `data_range` is not positive.

    Source:
        Wang, Simoncelli and Bovik, Asilomar 2003.
    """
    restored, clean = checked_pair(restored, clean)
    height, width = restored.shape[:2]
    window = window_for(height, width) if window_px is None else window_px
    if window % 2 == 0 or (window - 1) * 2**HALVINGS >= min(height, width):
        raise DataError(
            f"MS-SSIM with a window of {window} px needs an odd window and images of more than "
            f"{(window - 1) * 2**HALVINGS} px a side, got {height} x {width}"
        )
    if not is_finite(restored):
        return 0.0
    planes = [torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None] for image in (restored, clean)]
    taps = torch.tensor(gaussian_taps(SIGMA_PX, window // 2), dtype=torch.float64)  # its own is of float32
    win = taps.expand(planes[0].shape[1], 1, 1, -1)
    value = torch_ms_ssim(*planes, data_range=checked_range(data_range), win=win, weights=list(SCALE_WEIGHTS))
    return float(value)


def window_for(height: int, width: int) -> int:
    """Largest window in pixels, up to 11, for five scales of an image: 11 from 161 px a side, down to 3 from 33 px.

    The window must fit the smallest scale, a sixteenth of the image.

    Raises:
        DataError: The image is smaller than 33 px.
    """
    window = min(LARGEST_WINDOW_PX, (min(height, width) - 1) // 2**HALVINGS + 1)
    window -= 1 - window % 2
    if window < 3:
        raise DataError(f"MS-SSIM needs images of more than {2 * 2**HALVINGS} px a side, got {height} x {width}")
    return window


def _measure(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """The similarity of every image of a batch, (K, N)."""
    taps = gaussian_taps(SIGMA_PX, window_for(*clean_NCHW.shape[-2:]) // 2)
    images, clean = within_float32(restored_KNCHW), clean_NCHW
    value_KNC = torch.ones(restored_KNCHW.shape[:3], device=restored_KNCHW.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            padding = [size % 2 for size in clean.shape[-2:]]
            halved = F.avg_pool2d(torch.cat([clean[None], images]).flatten(0, 1), 2, padding=padding)
            clean, *_ = parts = halved.unflatten(0, (-1, len(clean_NCHW)))
            images = parts[1:]
        luminance, contrast = dissimilarities(images, clean, taps)
        term = (1 - luminance) * (1 - contrast) if scale == HALVINGS else 1 - contrast
        value_KNC = value_KNC * term.flatten(3).mean(-1).relu() ** weight
    return worst_unless_finite(value_KNC.mean(-1), restored_KNCHW, 0.0)


BATCH_FORM = BatchForm(_measure)
