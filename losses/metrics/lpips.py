"""Learned perceptual image patch similarity, where its weights are on the machine."""

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

from configs.errors import DataError, MachineError
from losses.metrics.common.alexnet import PerceptualDistance
from losses.metrics.common.images import Image, checked_pair, checked_range, finite

TRUNK, TRUNK_SHA256 = "alexnet-owt-7be5be79.pth", "7be5be79"
WEIGHTS = "alex.pth"
FOLDER_VARIABLE = "QUELL_LPIPS"
SMALLEST_PX = 32


def lpips(restored: NDArray[np.generic], clean: NDArray[np.generic], *, data_range: float) -> float:
    """Perceptual distance of AlexNet features, version 0.1; 0 for equal images, smaller is better; inf for a restored
    image that is not finite.

    The image is scaled from [0, data_range] to [-1, 1] and not clipped; grey images count as RGB of equal channels.
    The two weight files are never downloaded: they are looked for in the folder named by the environment variable
    QUELL_LPIPS, else in torch.hub's. MachineError where they are not. Source: Zhang et al., CVPR 2018.
    """
    restored, clean = checked_pair(restored, clean)
    if min(restored.shape[:2]) < SMALLEST_PX or (restored.ndim == 3 and restored.shape[2] not in (1, 3)):
        raise DataError(
            f"LPIPS is of grey or RGB images of at least {SMALLEST_PX} px a side, but this one is {restored.shape}"
        )
    network = _network(folder())
    if not finite(restored):
        return math.inf
    with torch.inference_mode():
        return float(network(*(_tensor(image, checked_range(data_range)) for image in (restored, clean))))


def folder() -> Path:
    """Where the weight files are looked for."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(torch.hub.get_dir()) / "checkpoints")


def _tensor(image: Image, data_range: float) -> Tensor:
    planes = torch.from_numpy(np.atleast_3d(image)).float().permute(2, 0, 1)[None]
    return (planes * (2 / data_range) - 1).expand(1, 3, -1, -1)


@lru_cache(maxsize=1)
def _network(where: Path) -> PerceptualDistance:
    missing = [name for name in (TRUNK, WEIGHTS) if not (where / name).is_file()]
    if missing:
        raise MachineError(
            f"LPIPS needs its weights, and {' and '.join(missing)} are not in {where}: put torchvision's {TRUNK} and "
            f"the LPIPS v0.1 {WEIGHTS} there, name their folder in {FOLDER_VARIABLE}, or leave the metric out"
        )
    if not hashlib.sha256((where / TRUNK).read_bytes()).hexdigest().startswith(TRUNK_SHA256):
        raise MachineError(f"{where / TRUNK} is damaged: its SHA-256 does not begin with {TRUNK_SHA256}")
    try:
        trunk, weights = (torch.load(where / name, map_location="cpu", weights_only=True) for name in (TRUNK, WEIGHTS))
        return PerceptualDistance(trunk, weights)
    except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise MachineError(f"the LPIPS weights in {where} cannot be used: {error}") from error
