"""The normalisation layers that networks can be built with, by name, and faster ways to compute them on CPUs."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from quell.configs.export_mode.flag import is_exporting

Norm = Literal["batch", "frozen_batch", "batch_statistics", "instance", "group", "none"]
"""Name of a normalisation in a YAML; `norm_layer` explains them."""

FREEZE_AFTER = 2000
"""Training forward passes after which `frozen_batch` stops updating its statistics."""


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """Build a normalisation layer for features (N, channels, H, W), with one learned scale and shift per channel.

    | norm | statistics in training | statistics in evaluation |
    |---|---|---|
    | batch | of the batch | running averages |
    | frozen_batch | of the batch for the first 2000 forward passes, then frozen averages | the same averages |
    | batch_statistics | of the batch | of the batch, so the result depends on tiling and neighbours. What the TCFL
      reproduction calls "frozen BN", and what the official TCFL does by testing in training mode |
    | instance | of each channel of each image | the same |
    | group | of up to 8 groups of channels of each image | the same |
    | none | no normalisation, no parameters | the same |

    Args:
        norm: Name from the table.
        channels: Number of channels; groups are as many as divide both it and 8.

    Returns:
        The layer, with scales 1 and shifts 0.
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


def group_norm(x_NCHW: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Compute `functional.group_norm` and return it in the memory format of the input."""
    # On CPU torch's kernel for several groups of channels-last tensors takes up to ten times as long as the one for
    # contiguous tensors, which makes two copies the cheaper way.
    is_fast = groups == 1 or is_exporting() or x_NCHW.is_contiguous() or x_NCHW.device.type != "cpu"
    normalised = functional.group_norm(x_NCHW if is_fast else x_NCHW.contiguous(), groups, weight, bias, eps)
    return normalised if is_fast else normalised.contiguous(memory_format=torch.channels_last)


def instance_norm(
    x_NCHW: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each channel of each image by its own mean and variance."""
    # On CPU torch computes instance norm by reshaping to (1, N * C, H, W) and calling batch norm. Group norm with
    # groups of one channel gives the same numbers in a third of the time. Images of one pixel go to torch, which
    # refuses them: their variance is zero, and so would be the result.
    if not is_exporting() and (x_NCHW.device.type != "cpu" or x_NCHW.shape[-2:].numel() == 1):
        return functional.instance_norm(x_NCHW, weight=weight, bias=bias, eps=eps)
    return group_norm(x_NCHW, x_NCHW.shape[1], weight, bias, eps)


class GroupNorm(nn.GroupNorm):
    """Group normalisation, fast in either memory format on CPU (`group_norm`)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise features (N, C, H, W)."""
        return group_norm(x_NCHW, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Instance normalisation without running averages, fast in either memory format on CPU (`instance_norm`)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise features (N, C, H, W)."""
        return instance_norm(x_NCHW, self.weight, self.bias, self.eps)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics become constants after `freeze_after` training forward passes.

    From then on training computes what evaluation computes, and a sample no longer depends on the rest of its batch.
    The count is torch's buffer `num_batches_tracked`, so it survives checkpoints; a generator that runs six times a
    step counts six.
    """

    def __init__(self, channels: int, freeze_after: int = FREEZE_AFTER) -> None:
        super().__init__(channels)
        self.freeze_after = freeze_after
        self._count, self._seen = 0, (torch.tensor(0), -1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Normalise features (N, C, H, W)."""
        if not self.training:
            return super().forward(x_NCHW)
        if self._counted() < self.freeze_after:
            normalised = super().forward(x_NCHW)
            self._count, self._seen = self._count + 1, self._present()
            return normalised
        return functional.batch_norm(
            x_NCHW, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def _counted(self) -> int:
        """The buffer's count, kept on the host as well: reading it would wait for the GPU at every pass.

        It is read again after a change from outside, such as loading a checkpoint or moving to another device.
        """
        buffer, version = self._present()
        if buffer is not self._seen[0] or version != self._seen[1]:
            self._count, self._seen = int(buffer), (buffer, version)
        return self._count

    def _present(self) -> tuple[Tensor, int]:
        """The buffer, and how often it has been changed."""
        assert self.num_batches_tracked is not None
        return self.num_batches_tracked, self.num_batches_tracked._version
