"""How a device computes: TF32 or full float32, deterministic or fastest algorithms. Set for the whole process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from quell.configs.schema import LoopConfig


def set_tf32(loop: LoopConfig, precision: str) -> bool:
    """Let float32 convolutions and matrix products round their inputs to TF32, or forbid it; whether they do.

    Args:
        loop: `tf32` is what the user asked for; auto is TF32 beside bf16 and fp16, which are coarser, and full float32
            where a run computes in float32, so that its numbers are those of any other device.
        precision: The run's autocast type.
    """
    allowed = precision != "no" if loop.tf32 == "auto" else loop.tf32
    _allow_tf32(convolutions=allowed, products=allowed)
    return allowed


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside the block float32 means float32, as a comparison with a tolerance of rounding needs it."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    _allow_tf32(convolutions=False, products=False)
    try:
        yield
    finally:
        _allow_tf32(convolutions=before[0], products=before[1])


def set_determinism(wanted: bool) -> None:
    """Have torch choose the same algorithm every time (operators without a deterministic one warn), or the fastest.

    What an earlier run of this process has set is set back.
    """
    torch.backends.cudnn.benchmark = not wanted
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # the same as use_deterministic_algorithms(wanted, warn_only=True), which imports the compiler to tell it as well
    torch.set_deterministic_debug_mode("warn" if wanted else "default")
    # otherwise every new tensor is filled first, for programs that read memory they never wrote: 5 % of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _allow_tf32(*, convolutions: bool, products: bool) -> None:
    """Set torch's switches; on Intel GPUs one switch of oneDNN covers both."""
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.backends.cuda.matmul.allow_tf32 = products
    if torch.xpu.is_available() and hasattr(torch.backends.mkldnn, "allow_tf32"):
        torch.backends.mkldnn.allow_tf32 = convolutions  # type: ignore[assignment]
