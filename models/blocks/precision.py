"""Precision for the steps of a network that half precision would spoil, whatever autocast does around them."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """The tensor in float32, or unchanged if it is float64 (gradient checks run in float64)."""
    return x if x.dtype == torch.float64 else x.float()
