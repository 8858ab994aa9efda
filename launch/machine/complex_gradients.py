"""A check, before training, that the backend averages gradients of complex64 weights correctly over ranks."""

import copy

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from quell.configs.errors import MachineError
from quell.launch.machine.arithmetic import full_float32
from quell.pipelines.base import Pipeline

TOLERANCE = 1e-5
"""Largest difference, relative to the largest gradient, that rounding explains."""


def check_complex(accelerator: Accelerator, pipeline: Pipeline) -> None:
    """MachineError on every rank unless DDP averages a complex layer's gradient to the one computed on one process.

    Backends have averaged the real parts only, or refused complex tensors; a network would train on wrong gradients.
    The check takes a few milliseconds, and nothing where no weight is complex or one process trains. Collective.
    """
    if accelerator.num_processes == 1 or not any(p.is_complex() for p in pipeline.parameters()):
        return
    difference = complex_gradient_difference(accelerator)
    if difference > TOLERANCE:
        raise MachineError(
            f"gradients of complex64 weights averaged over {accelerator.num_processes} processes differ by "
            f"{difference:.1e} of their size from those computed on one ({dist.get_backend()}): set "
            "data.representation=ri, or train on one process"
        )


@full_float32()  # rounding to TF32 differs between one batch and several by more than the tolerance
def complex_gradient_difference(accelerator: Accelerator) -> float:
    """Largest relative difference over ranks between averaged and expected gradient; inf if the backend refuses."""
    world, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, dtype=torch.complex64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.complex64))
    inputs = [torch.randn(1, 2, 5, 5, generator=generator, dtype=torch.complex64).to(device) for _ in range(world)]
    alone = layer.to(device)
    expected = _gradients(copy.deepcopy(alone), torch.cat(inputs))
    try:
        found = _gradients(accelerator.prepare_model(alone), inputs[rank])
        worst = torch.stack([(a - b).abs().max() / b.abs().max() for a, b in zip(found, expected, strict=True)]).max()
    except RuntimeError:
        worst = torch.tensor(torch.inf, device=device)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return float(worst)


def _gradients(layer: nn.Module, images: Tensor) -> list[Tensor]:
    """Gradients of the mean squared modulus of the layer's output."""
    layer(images).abs().square().mean().backward()
    return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
