"""What a kind of weights becomes: tensors under today's names, the YAML they belong to, and how to check both."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quell.launch.data.fields import ImageKind
from quell.launch.importing.old_files import State
from quell.pipelines.base import Batch, Pipeline

SIDE_PX = 32
"""Side of the stored input."""


class Comparison(NamedTuple):
    """One output computed twice, in double precision."""

    what: str
    ours: Tensor
    original: Tensor

    @property
    def difference(self) -> float:
        """Largest absolute difference relative to the largest value of the original; inf where one is not finite."""
        difference = float((self.ours - self.original).abs().max() / self.original.abs().max().clamp_min(1e-30))
        return difference if math.isfinite(difference) else math.inf


@dataclass(frozen=True)
class Conversion:
    """The networks of old files as a method of this program."""

    variant: str
    """What the files were recognised as."""
    base: str
    """YAML in configs/ that the run's configuration starts from."""
    settings: list[str]
    """Overrides of it that the weights ask for, `a.b=c`."""
    weights: State
    """Tensors under the names of the method's checkpoints."""
    images: dict[str, ImageKind]
    """What the method's fields hold."""
    compare: Callable[[Pipeline], list[Comparison]]
    """Computes outputs of a pipeline in double precision, and those of the original from the tensors of the file."""
    tolerance: float = 1e-6
    """Largest difference that rounding explains."""
    dropped: list[str] = field(default_factory=list)
    """Tensors of the files that nothing here reads."""
    notes: list[str] = field(default_factory=list)
    """What the user should know."""


def stored_input(channels: int = 1, seed: int = 0) -> Tensor:
    """The input that imports are compared on: smooth structure, an edge and noise, in [0, 1].

    Returns:
        (1, channels, 32, 32), float64; the same at every call.
    """
    axis = torch.linspace(0, 1, SIDE_PX, dtype=torch.float64)
    rows, columns = axis[:, None], axis[None]
    planes = []
    for channel in range(channels):
        wave = 0.5 + 0.25 * torch.sin(7 * rows + channel) * torch.cos((5 + seed) * columns)
        planes.append(torch.where(rows + columns > 1.1, wave * 0.6, wave))
    noise = torch.rand(channels, SIDE_PX, SIDE_PX, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (torch.stack(planes) + 0.2 * (noise - 0.5)).clamp(0, 1)[None]


def as_batch(**fields: Tensor) -> Batch:
    """Fields (N, C, H, W) as a batch whose images were divided by nothing."""
    batch: Batch = dict(fields)
    for name, images in fields.items():
        batch[f"{name}_scale"] = torch.ones(len(images), 1, 1, 1, dtype=torch.float64)
    first = next(iter(fields.values()))
    return {**batch, "index": torch.arange(len(first)), "key": [str(i) for i in range(len(first))]}


def to_double(module: nn.Module) -> None:
    """Turn the weights of a module into float64 and complex128, in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.data = _wide(parameter.data)
        for inner in module.modules():
            for name, buffer in list(inner.named_buffers(recurse=False)):
                setattr(inner, name, _wide(buffer))


def doubled(state: State) -> State:
    """The floating-point tensors of a state in double precision."""
    return {name: _wide(tensor) for name, tensor in state.items()}


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor
