"""The precision that some steps of a network need, whatever autocast is on around them."""

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they already are."""
    return x if x.dtype == torch.float64 else x.float()
