"""Contrast2Contrast's encoder and decoders, real or complex, from the tensors of their files."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State


def encode(state: State, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The latent (N, L, h, w), with the parts of complex networks stacked, and the skips, full resolution first."""
    x = _double_conv(state, "inc", x)
    skips = [x]
    depth = len({name.split(".")[1] for name in state if name.startswith("downs.")})
    for i in range(depth):
        pooled = _on_parts(lambda part: functional.max_pool2d(part, 2), x)
        x = _double_conv(state, f"downs.{i}.maxpool_conv.0", pooled)
        skips.append(x)
    latent = functional.conv2d(skips.pop(), state["bottleneck.weight"], state["bottleneck.bias"])
    return torch.cat([latent.real, latent.imag], 1) if latent.is_complex() else latent, skips


def decode(state: State, latent: Tensor, skips: list[Tensor] | None) -> Tensor:
    """The image of a latent; without skips zeros take their place in the concatenations."""
    if state["expand.weight"].is_complex():
        real, imaginary = latent.chunk(2, 1)
        latent = torch.complex(real, imaginary)
    x = functional.conv2d(latent, state["expand.weight"], state["expand.bias"])
    depth = len({name.split(".")[1] for name in state if name.startswith("ups.")})
    for i in range(depth):
        up = functional.conv_transpose2d(x, state[f"ups.{i}.up.weight"], state[f"ups.{i}.up.bias"], stride=2)
        skip = torch.zeros_like(up) if skips is None else skips[depth - 1 - i]
        x = _double_conv(state, f"ups.{i}.conv", torch.cat([skip, up], 1))
    return functional.conv2d(x, state["outc.weight"], state["outc.bias"])


def _double_conv(state: State, name: str, x: Tensor) -> Tensor:
    for j in (1, 2):
        x = functional.conv2d(x, state[f"{name}.conv{j}.weight"], padding=1)
        x = _on_parts(partial(_norm_relu, state[f"{name}.bn{j}.weight"], state[f"{name}.bn{j}.bias"]), x)
    return x


def _norm_relu(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return functional.relu(functional.group_norm(x, 1, weight, bias))


def _on_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.complex(function(x.real), function(x.imag)) if x.is_complex() else function(x)
