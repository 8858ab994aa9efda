"""Patches that hold nothing but noise: found in the noisy images themselves, and centred at zero."""

import torch
from torch import Tensor
from torch.nn import functional

CELLS = 8
"""A patch is looked at as 8 x 8 cells: what varies between cells is structure, what varies within them is noise."""


def flattest(noisy_NCHW: Tensor, patch_px: int) -> Tensor:
    """From each image its patch (N, C, p, p) with the least structure for its noise: background, where there is any.

    p is `patch_px`, or the largest multiple of 8 below it that fits the image. Patches are taken at every half patch.
    The measure is the variance of the 8 x 8 cells' means over the variance within the cells, summed over channels; a
    patch without variance within its cells (a blank margin, a saturated area) is taken only when there is nothing else.
    """
    side = min(patch_px, *noisy_NCHW.shape[-2:]) // CELLS * CELLS
    assert side, "the caller has checked that images are larger than a cell"
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
        places = score.flatten(1).argmin(1)
        columns, step = score.shape[-1], side // 2
        along = torch.arange(side, device=places.device)  # indices on the device: nobody waits for where a patch is
        rows = (places // columns * step)[:, None] + along
        across = (places % columns * step)[:, None] + along
        sample = torch.arange(len(places), device=places.device)[:, None, None]
        return noisy_NCHW[sample, :, rows[:, :, None], across[:, None, :]].permute(0, 3, 1, 2).contiguous()


def centred(patches_NCHW: Tensor) -> Tensor:
    """The patches without their own mean: noise, whatever the brightness it was found at."""
    return patches_NCHW - patches_NCHW.mean(dim=(-2, -1), keepdim=True)


def tiles(images_NCHW: Tensor, height: int, width: int) -> Tensor:
    """The images cut into as many whole tiles (N * k, C, height, width) as fit side by side, from the top left."""
    n, channels, rows, columns = images_NCHW.shape
    down, across = max(1, rows // height), max(1, columns // width)
    part = images_NCHW[..., : down * height, : across * width]
    cut = part.unflatten(-2, (down, part.shape[-2] // down)).unflatten(-1, (across, part.shape[-1] // across))
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n * down * across, channels, *cut.shape[3::2])
