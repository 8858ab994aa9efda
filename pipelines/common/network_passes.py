"""Running a network over several groups of images, and clipping its weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def forward_groups(network: nn.Module, groups: Sequence[Tensor], *, together: bool = True) -> list[Tensor]:
    """The network's output for each group of images.

    In one pass there are fewer and larger kernels, and the numbers are the same for every norm that looks at one sample
    at a time. A batch norm in training mode does not: separate passes normalise each group by its own statistics, as
    code that calls the network once per group does.

    Args:
        network: Any network.
        groups: Tensors (N, C, H, W) of the same shape.
        together: Concatenate the groups into one pass.
    """
    if not together:
        return [network(group) for group in groups]
    return list(network(torch.cat(list(groups))).chunk(len(groups)))


def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter of a network to [-bound, bound], in place."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.clamp_(-bound, bound)
