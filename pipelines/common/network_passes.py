"""Several groups of images through one network: in one pass, where its norm lets samples be themselves."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def passes(network: nn.Module, groups: Sequence[Tensor], *, together: bool = True) -> list[Tensor]:
    """The network's result for each group of images, all groups of one length.

    Together the groups are one batch: fewer and larger kernels, and the same numbers for every norm that looks at one
    sample at a time. A batch norm in training mode does look at the others: apart, each group is normalised by its own
    statistics, as in a code that calls the network once for each.
    """
    if not together:
        return [network(group) for group in groups]
    return list(network(torch.cat(list(groups))).chunk(len(groups)))


def clip_weights(network: nn.Module, bound: float) -> None:
    """Every parameter of a network to [-bound, bound], in place."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.clamp_(-bound, bound)
