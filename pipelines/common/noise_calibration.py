"""Noise levels that are measured once, on whole training images, and kept in a buffer with the weights."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from configs.errors import DataError
from losses.common.noise_level import noise_levels
from pipelines.base import Batch

BUFFER = "levels"
"""Name of the buffer. A level of 0 means that each image's own is estimated."""


def measured(batches: Iterable[Batch], fields: Sequence[str], *, needed: bool = True) -> Tensor:
    """Each field's noise level in stored units, (len(fields),): the median over all images of `noise_levels`.

    DataError where a level that is `needed` is not positive: a method would take noisy images for clean ones, and learn
    to change nothing.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in fields}
    for batch in batches:
        for name, levels in found.items():
            level = torch.from_numpy(noise_levels(batch[name].cpu().numpy()))
            levels.append(level * batch[f"{name}_scale"].flatten().cpu())
    medians = {name: torch.cat(levels).median() for name, levels in found.items()}
    for name, level in medians.items():
        if needed and not level > 0:
            raise DataError(
                f"the noise level of {name} comes out as {level:g}, which happens where more than half of "
                "an image is constant (masked, padded): give its standard deviation in stored units as "
                "pipeline.sigma"
            )
    return torch.stack(list(medians.values()))


def migrate_state(tensors: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The tensors of a checkpoint; one older than the buffer estimated each image's own level, and goes on so."""
    return tensors if BUFFER in tensors else {**tensors, BUFFER: torch.zeros(count)}


class HostCopy:
    """The values of a buffer on the CPU, asked of the device once per change and not once per step."""

    def __init__(self) -> None:
        self._version, self._values = -1, [0.0]

    def of(self, buffer: Tensor) -> list[float]:
        """The values now."""
        if self._version != buffer._version:
            self._version, self._values = buffer._version, buffer.tolist()
        return self._values
