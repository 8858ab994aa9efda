"""Random numbers of restorations: functions of an image's index alone, whatever else is restored with it."""

import math

import torch
from torch import Tensor

from quell.configs.errors import ConfigError
from quell.configs.export_mode.flag import is_exporting
from quell.configs.fields import DRAWS
from quell.pipelines.common.random_numbers import normals
from quell.pipelines.common.random_numbers.distributions import Draw
from quell.pipelines.common.random_numbers.split_mix import stream_seeds

RESTORING = 0x5245_5354_4F52_4544
"""Seed of restorations, which is not that of any run."""


class ImageDraws:
    """The draws with which a batch is restored, numbered from 0.

    Args:
        indices_N: Number of each image, on the device of the batch.
        version: Of the random draws (`configs.fields.DRAWS`); 1 reads the indices, which waits for the device.
    """

    def __init__(self, indices_N: Tensor, version: int = DRAWS) -> None:
        if version == 1 and is_exporting():
            raise ConfigError(
                "its random numbers are those of version 0.3 or older, which torch draws on the host and no other "
                "runtime can: train it again, or restore with pipeline.passes=0"
            )
        self._version = version
        self._numbers = [int(index) for index in indices_N] if version == 1 else []
        self._seeds_N2 = stream_seeds(RESTORING, torch.zeros_like(indices_N), indices_N) if version > 1 else None

    def of(self, draw: int) -> Draw:
        """What a draw takes numbers of other distributions from."""
        assert self._seeds_N2 is not None, "draws of version 1 have none"
        return Draw(self._seeds_N2, f"draw {draw}")

    def normals(self, like_NCHW: Tensor, draw: int, margin_px: int = 0) -> Tensor:
        """Standard-normal images; they have `margin_px` rows and columns more than those that they are like."""
        channels, height, width = like_NCHW.shape[1:]
        shape = (channels, height + margin_px, width + margin_px)
        if self._seeds_N2 is not None:
            numbers = normals.normals(self._seeds_N2, [normals.stream_of(f"draw {draw}")], math.prod(shape))
            return numbers[:, 0].reshape(-1, *shape).to(like_NCHW)
        images = []
        for number in self._numbers:
            generator = torch.Generator().manual_seed(number * 1_000_003 + draw)
            images.append(torch.randn(shape, generator=generator))
        return torch.stack(images).to(like_NCHW)
