"""Blind spots: pixels that a network must restore without seeing them, nor neighbours with correlated noise.

One pixel of every cell of the image is a centre. It is hidden with a rectangle of its neighbours, as wide as the
noise is correlated, and the network learns the centre's noisy value from the visible pixels, whose noise is independent
of it. Sources: Krull, Buchholz and Jug, CVPR 2019 (single pixels); Broaddus et al., ISBI 2020 (wider masks); Hoeck et
al., ECCV Workshops 2022 (medians).
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quell.models.blocks.padding import crop_to

Replacement = Literal["neighbour", "median"]

REACH_PX = 2
"""Hidden pixels are replaced from visible ones up to this far beyond the mask, along each axis."""


class Extent(NamedTuple):
    """Neighbours hidden on either side of a centre."""

    rows: int = 0
    columns: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of the mask, the centre included."""
        return (2 * self.rows + 1) * (2 * self.columns + 1)


class Spots(NamedTuple):
    """The blind spots of N images, each (N, 1, H, W) bool and the same for all channels."""

    centre: Tensor
    """Pixels that are compared with the noisy image."""
    hidden: Tensor
    """Pixels that the network does not see: the centres and their neighbours within the mask."""


def draw(uniform_N1HW: Tensor, extent: Extent, share: float) -> Spots:
    """Draw one centre in every cell, uniformly.

    Args:
        uniform_N1HW: Random numbers in [0, 1], one per pixel.
        extent: How many neighbours are hidden with each centre.
        share: Share of the pixels to hide, at most; it determines the size of the cells.

    Returns:
        The spots; fewer pixels are hidden where masks overlap.
    """
    H, W = uniform_N1HW.shape[-2:]
    cell = [math.ceil((2 * reach + 1) / math.sqrt(share)) for reach in extent]
    highest = functional.max_pool2d(uniform_N1HW, cell, cell, ceil_mode=True)
    highest = crop_to(highest.repeat_interleave(cell[0], -2).repeat_interleave(cell[1], -1), (H, W))
    centre = uniform_N1HW == highest
    return Spots(centre, dilated(centre, extent))


def dilated(centre_N1HW: Tensor, extent: Extent) -> Tensor:
    """Every pixel within the mask of a centre."""
    window = (2 * extent.rows + 1, 2 * extent.columns + 1)
    return functional.max_pool2d(centre_N1HW.float(), window, 1, (extent.rows, extent.columns)) > 0


def replaced(image_NCHW: Tensor, hidden_N1HW: Tensor, extent: Extent, how: Replacement, uniform_N1HW: Tensor) -> Tensor:
    """The image with every hidden pixel replaced by visible ones near it; 0 where no visible pixel is near.

    A hidden neighbour must not stand in for a hidden pixel, since its noise is that of a target, or correlated with it.

    Args:
        image_NCHW: Noisy images.
        hidden_N1HW: Pixels to replace.
        extent: Extent of the masks; visible pixels are looked for up to `REACH_PX` beyond it.
        how: neighbour takes one visible pixel, chosen at random; median the median of all of them.
        uniform_N1HW: Random numbers in [0, 1], one per pixel.
    """
    values_KNCHW, visible_KN1HW = _windows(image_NCHW, ~hidden_N1HW, extent)
    count_N1HW = visible_KN1HW.sum(0)
    if how == "median":
        ordered = torch.where(visible_KN1HW, values_KNCHW, torch.inf).sort(0).values
        position = ((count_N1HW - 1) // 2).clamp(min=0)
    else:
        # each visible pixel of the window gets its rank among them, and the one with the drawn rank is taken
        order = torch.where(visible_KN1HW, visible_KN1HW.cumsum(0) - 1, len(values_KNCHW))
        drawn = torch.minimum((uniform_N1HW * count_N1HW).long(), count_N1HW - 1)
        ordered, position = values_KNCHW, (order == drawn).int().argmax(0)
    chosen = ordered.gather(0, position.expand(*image_NCHW.shape)[None])[0]
    chosen = torch.where(count_N1HW > 0, chosen, 0.0)
    return torch.where(hidden_N1HW, chosen, image_NCHW)


def _windows(image_NCHW: Tensor, visible_N1HW: Tensor, extent: Extent) -> tuple[Tensor, Tensor]:
    """The K pixels around each pixel, and which of them are visible; beyond the border there are none."""
    H, W = image_NCHW.shape[-2:]
    rows, columns = extent.rows + REACH_PX, extent.columns + REACH_PX
    border = (columns, columns, rows, rows)
    image, visible = functional.pad(image_NCHW, border), functional.pad(visible_N1HW, border)
    shifts = [(y, x) for y in range(2 * rows + 1) for x in range(2 * columns + 1)]
    return tuple(torch.stack([v[..., y : y + H, x : x + W] for y, x in shifts]) for v in (image, visible))  # type: ignore[return-value]
