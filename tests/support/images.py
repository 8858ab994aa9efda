"""Random images and batches, reproducible from their seeds."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from quell.pipelines.base import Batch


def normal_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal values; real and imaginary parts of complex ones have a variance of 1/2."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform_image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniform values in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def uniform_batch(
    *fields: str,
    count: int = 2,
    channels: int = 1,
    side: int = 32,
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """A batch as a loader yields it: independent square images in [0, 1) for each field, with scales of 1.

    Images are drawn in the order of the fields, so appending a field leaves the images of the others as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, side, side)
    images = {field: torch.rand(shape, generator=generator, dtype=dtype) for field in fields}
    return {**images, **{f"{field}_scale": torch.ones(count, 1, 1, 1) for field in fields}}


def noisy_pair(
    shape: tuple[int, ...], *, seed: int = 0, blur_px: float = 3, sigma: float = 0.1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A noisy image and the smooth clean one below it, (H, W) or (H, W, C); the clean one spans [0, 1] exactly."""
    rng = np.random.default_rng(seed)
    clean = gaussian_filter(rng.random(shape), blur_px, axes=(0, 1))
    clean = (clean - clean.min()) / (clean.max() - clean.min())
    return clean + sigma * rng.standard_normal(shape), clean
