"""How networks draw their initial weights. Modules are visited in order of definition, so a seed fixes every weight."""

import torch
from torch import nn

GAIN = 0.7
"""Factor on He's standard deviation for the weights of a network that starts near the identity."""
BRANCH_GAIN = 0.21
"""The same for the last convolution of each residual branch."""
OUTPUT_GAIN = 0.07
"""The same for the last convolution of the network."""


def init_normal(network: nn.Module, std: float) -> None:
    """Draw convolution weights about 0 and normalisation scales about 1 with this standard deviation; zero all biases.

    The scheme of DCGAN (Radford et al., ICLR 2016), which CycleGAN's and TCFL's code use with std 0.02.
    """
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        nn.init.normal_(weight, 0.0 if isinstance(module, nn.modules.conv._ConvNd) else 1.0, std)
        if isinstance(module.bias, nn.Parameter):
            nn.init.zeros_(module.bias)


def init_he(network: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers with variance 2 / fan_in (He); zero their biases.

    Source: He et al., ICCV 2015, equation 10.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_xavier(network: nn.Module) -> None:
    """Draw the weights of convolutions uniformly with variance 2 / (fan_in + fan_out) (Xavier); zero their biases.

    Source: Glorot and Bengio, AISTATS 2010, equation 16.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def init_near_identity(network: nn.Module, tail: nn.Conv2d) -> None:
    """Draw He weights scaled down, so that a residual network starts close to returning its input.

    Without normalisation nothing else keeps activations from growing from one residual block to the next.

    Args:
        network: Module whose residual branches end in an attribute named `last`.
        tail: Its last convolution, which starts smallest and without bias.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            module.weight.mul_(GAIN)
    for module in network.modules():
        if isinstance(last := getattr(module, "last", None), nn.Conv2d):
            last.weight.mul_(BRANCH_GAIN / GAIN)
    tail.weight.mul_(OUTPUT_GAIN / GAIN)
    assert tail.bias is not None
    tail.bias.zero_()
