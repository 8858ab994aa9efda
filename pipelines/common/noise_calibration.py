"""Noise levels of a method's fields: given, calibrated once on training images, or estimated from each image."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from configs.errors import DataError
from losses.common.noise_level import noise_levels
from pipelines.base import Batch
from pipelines.common.host_copy import HostCopy
from pipelines.common.recorruption import estimated_sigma

BUFFER = "levels"
"""Name of the buffer with the calibrated levels."""

SigmaSetting = float | dict[str, float] | Literal["estimate", "estimate_each"]
"""The setting `pipeline.sigma`: one number or one per field, calibrated (estimate), or per image (estimate_each)."""


class NoiseLevel:
    """Standard deviation of the noise in each of a method's noisy fields.

    A calibrated level is measured before the first step and kept in the method's own buffer, so that it is saved,
    loaded and moved with the weights. Given and calibrated levels are in stored units; where there is neither, an
    image's level is estimated from the image itself.
    """

    def __init__(self, method: nn.Module, sigma: SigmaSetting, fields: Sequence[str]) -> None:
        """Register the buffer in `method` if `sigma` asks for calibration."""
        self.is_calibrated = sigma == "estimate"
        self._method, self._fields = method, tuple(fields)
        self._given: dict[str, float | None]
        if isinstance(sigma, dict):
            self._given = {name: sigma[name] for name in fields}
        else:
            self._given = dict.fromkeys(fields, sigma if isinstance(sigma, float) else None)
        self._host_copy = HostCopy()
        if self.is_calibrated:
            method.register_buffer(BUFFER, torch.zeros(len(self._fields)))

    def of_batch(self, batch: Batch) -> dict[str, Tensor]:
        """The level of each image in the units of the batch, (N, 1, 1, 1) by field."""
        levels = {}
        for name, level in self._stored().items():
            if level is not None:
                levels[name] = level / batch[f"{name}_scale"]
            elif f"{name}_sigma" in batch:  # of the whole image, where the batch holds tiles of it
                levels[name] = batch[f"{name}_sigma"]
            else:
                levels[name] = estimated_sigma(batch[name])
        return levels

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """`Pipeline.image_statistics`: `<field>_sigma` of the fields whose level is estimated per image."""
        return {
            f"{name}_sigma": estimated_sigma(batch[name])
            for name, level in self._stored().items()
            if level is None and name in batch
        }

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch], *, required: bool = True) -> None:
        """Set each field's level, in stored units, to the median over whole training images.

        Raises DataError if a level comes out as 0 and is `required`: the method would take the noisy images for clean
        ones and learn the identity.
        """
        levels: dict[str, list[Tensor]] = {name: [] for name in self._fields}
        for batch in batches:
            for name in self._fields:
                level = torch.from_numpy(noise_levels(batch[name].cpu().numpy()))
                levels[name].append(level * batch[f"{name}_scale"].flatten().cpu())
        medians = {name: torch.cat(values).median() for name, values in levels.items()}
        for name, median in medians.items():
            if required and not median > 0:
                raise DataError(
                    f"the noise level of '{name}' was estimated as {median:g}, which happens if more than half of each "
                    "image is constant (masked or padded): set pipeline.sigma to its standard deviation in stored units"
                )
        self._buffer().copy_(torch.stack(list(medians.values())))

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """`Pipeline.migrate_state`: a checkpoint older than the buffer estimated per image, and continues to."""
        if not self.is_calibrated or BUFFER in tensors:
            return tensors
        return {**tensors, BUFFER: torch.zeros(len(self._fields))}

    def _buffer(self) -> Tensor:
        # looked up each time: moving a module to another device replaces its buffers
        return self._method.get_buffer(BUFFER)

    def _stored(self) -> dict[str, float | None]:
        """The level of each field in stored units; None where it is estimated per image."""
        if not self.is_calibrated:
            return self._given
        # 0 in the buffer: nothing measured, as in checkpoints older than the buffer
        return {
            name: level or None for name, level in zip(self._fields, self._host_copy.of(self._buffer()), strict=True)
        }
