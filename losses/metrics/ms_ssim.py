"""Multi-scale structural similarity."""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim as torch_ms_ssim

from configs.errors import DataError
from losses.metrics.common.images import checked_pair, checked_range, finite

HALVINGS = 4
LARGEST_WINDOW_PX = 11


def ms_ssim(
    restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float, window_px: int | None = None
) -> float:
    """Multi-scale structural similarity over five scales in [0, 1], larger is better; channels are averaged.

    Gaussian window of sigma 1.5, weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, in float32 (half precision gives
    values above 1). `window_px`: None takes 11 px where the image allows it and the largest odd window that does
    elsewhere (`window_for`); values of different windows are not comparable. An image with a scale where structure is
    anticorrelated (negative contrast term) scores exactly 0, as does one that is not finite.
    Source: Wang et al., Asilomar 2003.
    """
    restored, clean = checked_pair(restored, clean)
    height, width = restored.shape[:2]
    window = window_for(height, width) if window_px is None else window_px
    if window % 2 == 0 or (window - 1) * 2**HALVINGS >= min(height, width):
        raise DataError(
            f"MS-SSIM with a window of {window} px needs an odd window and more than {(window - 1) * 2**HALVINGS} px a "
            f"side, but the image is {height} x {width}"
        )
    if not finite(restored):
        return 0.0
    planes = [torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].float() for image in (restored, clean)]
    value = torch_ms_ssim(*planes, data_range=checked_range(data_range), win_size=window, size_average=True)
    return float(value)


def window_for(height: int, width: int) -> int:
    """The window in pixels for five scales: 11 from 161 px a side, down to 3 from 33 px; DataError below that.

    The smallest scale, a sixteenth of the image, must hold the window.
    """
    window = min(LARGEST_WINDOW_PX, (min(height, width) - 1) // 2**HALVINGS + 1)
    window -= 1 - window % 2
    if window < 3:
        raise DataError(f"MS-SSIM needs more than {2 * 2**HALVINGS} px a side, but the image is {height} x {width}")
    return window
