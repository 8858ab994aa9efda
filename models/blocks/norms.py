"""The normalisations a network can be built with, by name."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

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
        return InstanceNorm2d(channels, affine=True)
    return GroupNorm(math.gcd(channels, 8), channels) if norm == "group" else nn.Identity()


def by_group(x_NCHW: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Group normalisation, in the memory order of its input.

    On CPU torch's kernel for several groups of channels-last tensors takes up to ten times as long as the planar one:
    there two copies are cheaper.
    """
    native = groups == 1 or x_NCHW.is_contiguous() or x_NCHW.device.type != "cpu"
    normal = functional.group_norm(x_NCHW if native else x_NCHW.contiguous(), groups, weight, bias, eps)
    return normal if native else normal.contiguous(memory_format=torch.channels_last)


def by_instance(x_NCHW: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Normalisation of each channel of each image by its own mean and variance.

    On CPU as groups of one channel: the same numbers in a third of the time that torch's own takes, by way of its batch
    norm. Images of one pixel are left to torch, which refuses them.
    """
    if x_NCHW.device.type != "cpu" or x_NCHW.shape[-2:].numel() == 1:
        return functional.instance_norm(x_NCHW, weight=weight, bias=bias, eps=eps)
    return by_group(x_NCHW, x_NCHW.shape[1], weight, bias, eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation, in the memory order of its input."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The normalised features, shape as given."""
        return by_group(x_NCHW, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation without running averages, in the memory order of its input."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The normalised features, shape as given."""
        return by_instance(x_NCHW, self.weight, self.bias, self.eps)


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
        return functional.batch_norm(
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
