"""Floating-point operations of a step, as torch counts them, with its count for grouped convolutions corrected."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def count(step: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products that `step` runs, forward and backward.

    Norms, activations, FFTs and interpolation are not counted.
    """
    rules = {torch.ops.aten.convolution_backward: _count_convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=rules) as counter:
        step()
    return float(counter.get_total_flops())


def _count_convolution_backward(
    gradient: Any,
    image: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: list[bool],
    out_shape: Any = None,
) -> int:
    """As many operations as the forward pass for the image's gradient, and as many for the weight's, where computed.

    torch 2.13 counts the weight's gradient `groups` times too often: 96 times for a depth-wise convolution of 96
    channels. The signature is that of the operator, with shapes for tensors.
    """
    return sum(output_mask[:2]) * conv_flop_count(image, weight, gradient, transposed=transposed)
