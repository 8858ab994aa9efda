"""Two small images from one noisy image, from pixels that they do not share.

If the noise is independent between pixels, the two have independent noise and nearly the same content, as a pair for
Noise2Noise has. If neighbouring pixels have correlated noise, the noise of one half predicts that of the other, and a
network learns to keep it.
"""

import torch
from torch import Tensor
from torch.nn import functional

PAIRS = 8
"""Ordered pairs of pixels of a cell of 2 x 2, numbered 0 1 / 2 3, that share a side."""


def even(image_NCHW: Tensor) -> Tensor:
    """The image without its last row or column where their number is odd."""
    H, W = (size // 2 * 2 for size in image_NCHW.shape[-2:])
    return image_NCHW[..., :H, :W]


def choose_neighbours(uniform_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Choose two neighbouring pixels of every cell of 2 x 2.

    Args:
        uniform_NHW: Numbers in [0, 1], one per cell.

    Returns:
        The numbers of the two pixels in every cell, 0 1 / 2 3, each (N, H, W).
    """
    pair = (uniform_NHW * PAIRS).long().clamp(0, PAIRS - 1)
    # 01 10 02 20 13 31 23 32: computed, for a table made in every step would be copied to the device
    side, is_reversed = pair // 2, pair % 2 == 1
    low, high = (side - 1).clamp_min(0), (side + 1).clamp_max(3)
    return torch.where(is_reversed, high, low), torch.where(is_reversed, low, high)


def sub_image(image_NCHW: Tensor, chosen_Nhw: Tensor) -> Tensor:
    """The image (N, C, H / 2, W / 2) of one pixel of every cell of 2 x 2, the same one in all channels."""
    N, C, H, W = image_NCHW.shape
    cells = functional.pixel_unshuffle(image_NCHW, 2).view(N, C, 4, H // 2, W // 2)
    return cells.gather(2, chosen_Nhw[:, None, None].expand(-1, C, -1, -1, -1)).squeeze(2)


def diagonal_halves(image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Two images of half the size: the means of the two diagonals of every cell of 2 x 2.

    Source: the pair of downsamplers of Mansour and Heckel, CVPR 2023.
    """
    top_left, top_right, bottom_left, bottom_right = (
        image_NCHW[..., row::2, column::2] for row in (0, 1) for column in (0, 1)
    )
    return (top_right + bottom_left) / 2, (top_left + bottom_right) / 2
