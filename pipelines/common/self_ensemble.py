"""Self-ensemble: an image is restored in each of its eight orientations, and the results are averaged.

Source: Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3.4.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from quell.pipelines.common.noise_sampling import ORIENTATIONS, oriented, undo_orientation


def self_ensembled(
    restore: Callable[[Tensor], Tensor], image: Tensor, orientations: Iterable[int] = range(ORIENTATIONS)
) -> Tensor:
    """The mean of what `restore` makes of an image (N, C, H, W) in these orientations, turned back; (N, C, H, W)."""
    views = [undo_orientation(restore(oriented(image, turn)), turn) for turn in orientations]
    return torch.stack(views).mean(dim=0)
