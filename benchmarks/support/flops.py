"""The arithmetic of a step, counted by torch, with its count of grouped convolutions put right."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def count(step: Callable[[], object]) -> float:
    """Floating-point operations of the convolutions and matrix products that `step` runs, forward and backward.

    Norms, activations, FFTs and interpolation count nothing.
    """
    rules = {torch.ops.aten.convolution_backward: _of_gradients}
    with FlopCounterMode(display=False, custom_mapping=rules) as counter:
        step()
    return float(counter.get_total_flops())


def _of_gradients(
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
    wanted: list[bool],
    out_shape: Any = None,
) -> int:
    """A convolution's gradient: what the convolution itself takes, for its image and for its weight, where wanted.

    torch 2.13 counts the weight's `groups` times too often: a depth-wise convolution of 96 channels 96 times.
    """
    return sum(wanted[:2]) * conv_flop_count(image, weight, gradient, transposed=transposed)
