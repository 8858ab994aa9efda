"""Learned perceptual image patch similarity, on machines that have its weights."""

import hashlib
import math
import os
import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quell.configs.errors import DataError, MachineError
from quell.losses.metrics.common.alexnet import PerceptualDistance
from quell.losses.metrics.common.batch_form import BatchForm, worst_unless_finite
from quell.losses.metrics.common.images import Image, checked_pair, checked_range, is_finite

TRUNK, TRUNK_SHA256 = "alexnet-owt-7be5be79.pth", "7be5be79"
WEIGHTS = "alex.pth"
FOLDER_VARIABLE = "QUELL_LPIPS"
SMALLEST_PX = 32


def lpips(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Perceptual distance of AlexNet features (LPIPS version 0.1); smaller is better.

    The two files of weights are never downloaded. They are looked for in the folder that the environment variable
    QUELL_LPIPS names, or else in torch.hub's.

    Args:
        restored: Image (H, W), (H, W, 1) or (H, W, 3), at least 32 px a side; grey counts as RGB of equal channels.
        clean: Clean image of the same shape.
        data_range: Difference between the largest and the smallest value that images can have. Images are scaled
            from [0, data_range] to [-1, 1] and not clipped.

    Returns:
        The distance in [0, inf]; 0 for equal images, inf for a restored image that is not finite.

    Raises:
        MachineError: The weights are not on this machine, or are damaged.
        DataError: The images do not fit together or are too small, or `data_range` is not positive.

    Source:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.
    """
    restored, clean = checked_pair(restored, clean)
    if min(restored.shape[:2]) < SMALLEST_PX or (restored.ndim == 3 and restored.shape[2] not in (1, 3)):
        raise DataError(
            f"LPIPS needs grey or RGB images of at least {SMALLEST_PX} px a side, got shape {restored.shape}"
        )
    network = _network(weights_folder(), torch.device("cpu"))
    if not is_finite(restored):
        return math.inf
    with torch.inference_mode():
        return float(network(*(_tensor(image, checked_range(data_range)) for image in (restored, clean))))


def weights_folder() -> Path:
    """Where the two files of weights are looked for."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(torch.hub.get_dir()) / "checkpoints")


def _tensor(image: Image, data_range: float) -> Tensor:
    """The image as (1, 3, H, W), scaled to [-1, 1]."""
    planes = torch.from_numpy(np.atleast_3d(image)).float().permute(2, 0, 1)[None]
    return (planes * (2 / data_range) - 1).expand(1, 3, -1, -1)


@lru_cache(maxsize=2)
def _network(folder: Path, device: torch.device) -> PerceptualDistance:
    """The network with its weights, which takes longer to read than an image to compare."""
    missing = [name for name in (TRUNK, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise MachineError(
            f"LPIPS needs its weights, but {folder} is missing {' and '.join(missing)}: put torchvision's {TRUNK} and "
            f"LPIPS v0.1's {WEIGHTS} there, set {FOLDER_VARIABLE} to their folder, or leave this metric out"
        )
    if not hashlib.sha256((folder / TRUNK).read_bytes()).hexdigest().startswith(TRUNK_SHA256):
        raise MachineError(
            f"{folder / TRUNK} is damaged: its SHA-256 does not start with {TRUNK_SHA256}; download it again"
        )
    try:
        trunk, weights = (torch.load(folder / name, map_location="cpu", weights_only=True) for name in (TRUNK, WEIGHTS))
        return PerceptualDistance(trunk, weights).to(device)
    except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise MachineError(f"the LPIPS weights in {folder} cannot be used: {error}") from error


def _measure(restored_KNCHW: Tensor, clean_NCHW: Tensor) -> Tensor:
    """The distance of every image of a batch, (K, N)."""
    K, N, C, H, W = restored_KNCHW.shape
    if min(H, W) < SMALLEST_PX or C not in (1, 3):
        raise DataError(f"LPIPS needs grey or RGB images of at least {SMALLEST_PX} px a side, got shape {(H, W, C)}")
    network = _network(weights_folder(), restored_KNCHW.device)
    pair = (images.reshape(-1, C, H, W) for images in (restored_KNCHW, clean_NCHW.expand_as(restored_KNCHW)))
    restored, clean = ((2 * images - 1).expand(-1, 3, -1, -1) for images in pair)
    return worst_unless_finite(network(restored, clean).view(K, N), restored_KNCHW, math.inf)


BATCH_FORM = BatchForm(_measure)
