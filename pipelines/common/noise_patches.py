"""Patches of pure noise: selected from the noisy images themselves, and centred at zero."""

import torch
from torch import Tensor
from torch.nn import functional

CELLS = 8
"""A patch is divided into 8 x 8 cells: variation between cells counts as structure, variation within them as noise."""


def flattest(noisy_NCHW: Tensor, patch_px: int) -> Tensor:
    """The patch of each image with the least structure relative to its noise: background, where there is any.

    The criterion is the variance between the means of 8 x 8 cells over the variance within the cells, summed over
    channels. A patch without variance within its cells (a blank margin, a saturated area) is chosen only if there is
    no other.

    Args:
        noisy_NCHW: Noisy images, larger than 8 px.
        patch_px: Side of the patches; the largest multiple of 8 that fits into smaller images.

    Returns:
        Patches (N, C, p, p), taken from positions half a patch apart.
    """
    side = min(patch_px, *noisy_NCHW.shape[-2:]) // CELLS * CELLS
    assert side, "the caller checks that images are larger than a cell"
    with torch.no_grad():
        mean = functional.avg_pool2d(noisy_NCHW, side // CELLS)
        square = functional.avg_pool2d(noisy_NCHW.square(), side // CELLS)
        stride = CELLS // 2
        within = functional.avg_pool2d(square - mean.square(), CELLS, stride).sum(1)
        between = (
            functional.avg_pool2d(mean.square(), CELLS, stride) - functional.avg_pool2d(mean, CELLS, stride).square()
        ).sum(1)
        smallest = 1e-6 * within.flatten(1).amax(1)[:, None, None]
        score = torch.where(within > smallest, between / within.clamp_min(1e-30), torch.inf)
        positions = score.flatten(1).argmin(1)
        columns, step = score.shape[-1], side // 2
        # indexing on the device: slicing would wait for the positions to reach the host
        along = torch.arange(side, device=positions.device)
        rows = (positions // columns * step)[:, None] + along
        across = (positions % columns * step)[:, None] + along
        sample = torch.arange(len(positions), device=positions.device)[:, None, None]
        return noisy_NCHW[sample, :, rows[:, :, None], across[:, None, :]].permute(0, 3, 1, 2).contiguous()


def centred(patches_NCHW: Tensor) -> Tensor:
    """The patches minus their own mean: noise independent of the local brightness."""
    return patches_NCHW - patches_NCHW.mean(dim=(-2, -1), keepdim=True)


def tiles(images_NCHW: Tensor, height: int, width: int) -> Tensor:
    """Each image cut into the k whole tiles that fit side by side from the top left, (N k, C, height, width)."""
    n, channels, rows, columns = images_NCHW.shape
    down, across = max(1, rows // height), max(1, columns // width)
    part = images_NCHW[..., : down * height, : across * width]
    cut = part.unflatten(-2, (down, part.shape[-2] // down)).unflatten(-1, (across, part.shape[-1] // across))
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n * down * across, channels, *cut.shape[3::2])
