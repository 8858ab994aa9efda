"""The normalisations a network can be built with, by name."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

Norm = Literal["batch", "frozen_batch", "batch_statistics", "instance", "group", "none"]

FREEZE_AFTER = 2000
"""Training forwards after which `frozen_batch` stops updating its statistics."""


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A normalisation over (N, C, H, W) with one learned scale and shift per channel (none: the identity).

    | norm | statistics in training | statistics when evaluated |
    |---|---|---|
    | batch | of the batch | running averages |
    | frozen_batch | of the batch for the first 2000 forwards, then frozen averages | the same averages |
    | batch_statistics | of the batch | of the batch: the result depends on tiling and neighbours. What the TCFL
      reproduction calls "frozen BN" and what the official TCFL does by testing in training mode |
    | instance | of each channel of each image | the same |
    | group | of up to 8 groups of channels of each image | the same |
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "frozen_batch":
        return FrozenBatchNorm2d(channels)
    if norm == "batch_statistics":
        return nn.BatchNorm2d(channels, track_running_stats=False)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.GroupNorm(math.gcd(channels, 8), channels) if norm == "group" else nn.Identity()


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that settles: after `freeze_after` training forwards its statistics are constants.

    Training then computes what evaluation computes and a sample no longer depends on its batch. The count is the buffer
    `num_batches_tracked`, so it survives checkpoints; a generator called six times a step counts six.
    """

    def __init__(self, channels: int, freeze_after: int = FREEZE_AFTER) -> None:
        super().__init__(channels)
        self.freeze_after = freeze_after
        self._frozen = False

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The normalised features, shape as given."""
        if self.training and not self._frozen:
            # Asked of the device only until the answer is yes.
            assert self.num_batches_tracked is not None
            self._frozen = int(self.num_batches_tracked) >= self.freeze_after
        if not (self.training and self._frozen):
            return super().forward(x_NCHW)
        return torch.nn.functional.batch_norm(
            x_NCHW, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._frozen = False


def draw_weights(network: nn.Module, std: float) -> None:
    """Convolution weights from N(0, std), their biases 0, normalisation scales from N(1, std), shifts 0."""
    for module in network.modules():
        affine = getattr(module, "weight", None)
        if not isinstance(affine, nn.Parameter):
            continue
        nn.init.normal_(affine, 0.0 if isinstance(module, nn.modules.conv._ConvNd) else 1.0, std)
        if isinstance(module.bias, nn.Parameter):
            nn.init.zeros_(module.bias)
