"""What must not happen in a step on a GPU, done on purpose: the observer has to notice each."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

FAULTS: dict[str, tuple[str, Callable[[Tensor], object]]] = {
    "reading a value": ("a value is read", lambda x: float(x.sum())),
    "branching on a value": ("a value is read", lambda x: bool(x.sum() > 0)),
    "listing values": ("a value is read", lambda x: x.sum((2, 3)).tolist()),
    "copying to the host": ("a blocking copy from cuda to cpu", lambda x: x.cpu()),
    "a constant made in the step": ("a blocking copy from cpu to cuda", lambda x: x.new_tensor([1.0, 2.0])),
    "an index of Python numbers": ("a blocking copy from cpu to cuda", lambda x: x[:, [0, 2]]),
    "an index on the host": ("by indices on the host", lambda x: x[torch.arange(2)]),
    "counting": ("nonzero waits", lambda x: (x > 0).nonzero()),
    "a boolean index": ("by a boolean mask waits", lambda x: x[x > 0]),
    "repeating by a tensor": (
        "repeat_interleave waits",
        lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.long, device=x.device), dim=1),
    ),
    "a transform in half precision": ("_fft_r2c of torch.float16", lambda x: torch.fft.rfft2(x.half())),
    "double precision": ("computes in double precision", lambda x: x.double()),
    "reflection padding": (
        "reflection_pad2d_backward has no deterministic kernel",
        lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect").sum().backward(),
    ),
    "bilinear resizing": (
        "_unsafe_index_put replaces a fast kernel",
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear").sum().backward(),
    ),
    "a median": ("median has no deterministic kernel", lambda x: x.flatten(1).median(1)),
    "a cumulative sum": ("cumsum of floating-point numbers", lambda x: x.cumsum(0)),
    "two devices": ("at least two devices", lambda x: x + torch.ones(2, 3, 8, 8)),
}
"""What is done -> words of the problem that is reported, and the function that does it."""
