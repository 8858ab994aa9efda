"""Residual blocks without normalisation, and how their networks' weights begin."""

import torch
from torch import Tensor, nn
from torch.nn import functional

GAIN, BRANCH, OUTPUT = 0.7, 0.21, 0.07
"""Factors on He's initial weights: of all, of each branch's last convolution, of the last one; near the identity."""


class Block(nn.Module):
    """x + conv(relu(conv(x))), 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return x + self.last(functional.relu(self.first(x), inplace=True))


def level(width: int, blocks: int) -> nn.Sequential:
    """So many blocks of one width."""
    return nn.Sequential(*(Block(width) for _ in range(blocks)))


@torch.no_grad()
def draw_weights(network: nn.Module, tail: nn.Conv2d) -> None:
    """He's normal weights times GAIN; branches (`last` of a module) and the network's `tail` begin smaller."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            module.weight.mul_(GAIN)
    for module in network.modules():
        if isinstance(last := getattr(module, "last", None), nn.Conv2d):
            last.weight.mul_(BRANCH / GAIN)
    tail.weight.mul_(OUTPUT / GAIN)
    assert tail.bias is not None
    tail.bias.zero_()
