"""Precision for the steps of a network that half precision would spoil, whatever autocast does around them."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision, otherwise unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
