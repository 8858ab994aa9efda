"""Every operator that reaches the fake device, and what a GPU would suffer from it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_stack
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

from quell.configs.support.paths import ROOT

SIZED_BY_VALUES = ("nonzero", "masked_select", "repeat_interleave", "_unique2", "unique_dim", "unique_consecutive")
"""Operators whose result has a size that depends on values, for which the host waits."""

COMPARED_ON_HOST = ("equal", "is_nonzero", "_local_scalar_dense")
"""Operators whose result is a Python value."""

NO_DETERMINISTIC_KERNEL = (
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "_ctc_loss_backward", "_embedding_bag_backward",
    "adaptive_max_pool2d_backward", "avg_pool3d_backward", "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "histc", "kthvalue",
    "max_unpool2d", "max_unpool3d", "median", "nanmedian", "nll_loss2d_backward", "nll_loss2d_forward", "put_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "upsample_bicubic2d_backward", "upsample_bilinear2d_backward", "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
)  # fmt: skip
"""What torch.use_deterministic_algorithms documents to raise on CUDA."""

SLOW_DETERMINISTIC = ("_unsafe_index_put", "_unsafe_index")
"""What torch takes interpolation apart into while algorithms have to be deterministic; the sums sort their indices."""

NO_KERNEL = frozenset(
    {
        "detach", "alias", "view", "_unsafe_view", "_reshape_alias", "expand", "permute", "transpose", "t", "unsqueeze",
        "squeeze", "slice", "select", "split", "split_with_sizes", "unbind", "chunk", "as_strided", "view_as_real",
        "view_as_complex", "unfold", "diagonal", "lift_fresh", "device", "empty", "empty_like", "empty_strided",
        "new_empty", "new_empty_strided", "real", "imag", "_conj", "_neg_view", "set_", "resize_", "is_same_size",
        "unflatten", "movedim", "narrow", "_to_copy_view", "_pin_memory", "is_pinned", "sym_size", "sym_numel",
    }
)  # fmt: skip
"""Operators that change the description of a tensor, or only allocate one."""


class Observer(TorchDispatchMode):
    """Notes what operators on the device do that they should not, and how many launch a kernel.

    Reading a value gives 1 where the tensor has no value, so that the code goes on behind it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_step = False
        """Whether the operators belong to a training step, in which nothing may wait for the device."""
        self.problems: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        """Operators of steps that launch a kernel, by name."""
        self.kernels: set[str] = set()
        """Operators that launched a kernel, in steps or elsewhere, as PyTorch's list of kernels names them."""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what happens inside the block as a step, from zero."""
        self.launches.clear()
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Look at one operator, then have the fake mode below compute the description of its result."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name == "device":
            return func(*args, **kwargs)
        tensors = list(_tensors(args))
        if name == "_local_scalar_dense":
            return self._value(func, tensors[0])
        self._inspect(name, tensors, args, kwargs)
        result = func(*args, **kwargs)
        self._inspect_result(func, result)
        return result

    def report(self, problem: str) -> None:
        """Note a problem at the line of the project that caused it."""
        self.problems[f"{problem} at {_place()}"] += 1

    def _value(self, func: Any, tensor: Tensor) -> Any:
        if not isinstance(tensor, FakeTensor):
            return func(tensor)
        if _device(tensor).type == "cuda" and self.in_step:
            self.report("a value is read from the device")
        return {torch.bool: True}.get(tensor.dtype, 1.0 if tensor.dtype.is_floating_point else 1)

    def _inspect(self, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> None:
        """Note what is wrong with an operator's arguments."""
        on_device = any(_device(tensor).type == "cuda" for tensor in tensors)
        if name in ("_to_copy", "copy_"):
            self._inspect_copy(name, tensors, args, kwargs)
        if not on_device:
            return
        if self.in_step and name in SIZED_BY_VALUES and not _has_size(args, kwargs):
            self.report(f"{name} waits for the size of its result")
        if self.in_step and name in COMPARED_ON_HOST:
            self.report(f"{name} waits for its result")
        if name.startswith(("index", "_unsafe_index")):
            self._inspect_index(name, args)
        if name.startswith("_fft_") and tensors[0].dtype not in (torch.float32, torch.complex64):
            self.report(f"{name} of {tensors[0].dtype}")
        if self.in_step and name in NO_DETERMINISTIC_KERNEL:
            self.report(f"{name} has no deterministic kernel")
        if self.in_step and name in SLOW_DETERMINISTIC:
            self.report(f"{name} replaces a fast kernel by a sum over sorted indices")
        if self.in_step and name in ("cumsum", "cumsum_") and tensors[0].dtype.is_floating_point:
            self.report("cumsum of floating-point numbers has no deterministic kernel")

    def _inspect_copy(self, name: str, tensors: list[Tensor], args: Any, kwargs: Any) -> None:
        if not self.in_step:
            return
        source = tensors[-1]
        target = torch.device(kwargs.get("device") or _device(source)) if name == "_to_copy" else _device(tensors[0])
        non_blocking = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        if _device(source).type == target.type or non_blocking:
            return
        if name == "copy_" and source.dim() == 0 and target.type == "cuda":
            return  # `x[0] = 1.0`, which is a fill outside of this mode
        self.report(f"a blocking copy from {_device(source).type} to {target.type}")

    def _inspect_index(self, name: str, args: Any) -> None:
        """Indices on the host are copied, and boolean ones counted, before the device can start."""
        indices = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else []
        for index in (index for index in indices if isinstance(index, Tensor)):
            is_fill = name.startswith("index_put") and len(indices) == 1 and args[2].numel() == 1
            if self.in_step and index.dtype in (torch.bool, torch.uint8) and not is_fill:
                self.report(f"{name} by a boolean mask waits for the number of elements")
            if self.in_step and _device(index).type != "cuda":
                self.report(f"{name} by indices on the host")

    def _inspect_result(self, operator: Any, result: Any) -> None:
        """Count a launch, and note numbers in double precision, which some devices do not have."""
        name = operator.overloadpacket.__name__
        if name in NO_KERNEL:
            return
        on_device = [tensor for tensor in _tensors((result,)) if _device(tensor).type == "cuda"]
        if not on_device:
            return
        self.kernels.add(name if operator._overloadname == "default" else f"{name}.{operator._overloadname}")
        if self.in_step:
            self.launches[name] += 1
        if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in on_device):
            self.report(f"{name} computes in double precision")


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments, in lists as well."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _device(tensor: Tensor) -> torch.device:
    """The device of a tensor, without an operator of its own where the tensor is fake."""
    return tensor.fake_device if isinstance(tensor, FakeTensor) else tensor.device


def _has_size(args: Any, kwargs: Any) -> bool:
    return kwargs.get("output_size") is not None


def _place() -> str:
    """The innermost line of the project's own code in this call, else what called into torch."""
    here = Path(__file__).parent
    for frame in reversed(extract_stack(limit=80)):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(here) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "the backward pass"
