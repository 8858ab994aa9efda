"""Self-ensemble: an image is restored in each of its eight orientations, and the results are averaged.

Source: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.4.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from quell.pipelines.common.noise_sampling import ORIENTATIONS, oriented, undo_orientation


def restored_turned(restore: Callable[[Tensor], Tensor], image: Tensor, turn: int) -> Tensor:
    """What `restore` makes of an image (N, C, H, W) in one of the eight orientations, turned back."""
    return undo_orientation(restore(oriented(image, turn)), turn)


def self_ensembled(
    restore: Callable[[Tensor], Tensor], image: Tensor, orientations: Iterable[int] = range(ORIENTATIONS)
) -> Tensor:
    """The mean of what `restore` makes of an image (N, C, H, W) in these orientations, turned back; (N, C, H, W).

    What is restored in half precision is averaged, and returned, in float32.
    """
    views = torch.stack([restored_turned(restore, image, turn) for turn in orientations])
    return views.to(torch.promote_types(views.dtype, torch.float32)).mean(0)
