"""DRGAN's content encoder and clean decoder from the tensors of their files."""

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State


def restored(encoder: State, decoder: State, x: Tensor) -> Tensor:
    """The clean image, in [-1, 1], decoded from the content of images (N, 1, H, W) in [-1, 1]."""
    full = functional.relu(functional.instance_norm(_conv(encoder, "model.0.conv", x, 3)))
    half = functional.relu(functional.instance_norm(_conv(encoder, "model.1.conv", full, 1, stride=2)))
    quarter = functional.relu(functional.instance_norm(_conv(encoder, "model.2.conv", half, 1, stride=2)))
    x = _residual_blocks(decoder, "model.0", _residual_blocks(encoder, "model.3", quarter))
    for fusion, layer, skip in ((0, 2, quarter), (1, 4, half)):
        x = _conv(decoder, f"concat_convs.{fusion}", torch.cat([x, skip], 1), 0)
        x = _conv(decoder, f"model.{layer}.conv", functional.interpolate(x, scale_factor=2.0), 2)
        x = functional.relu(_layer_norm(decoder, f"model.{layer}.norm", x))
    x = _conv(decoder, "concat_convs.2", torch.cat([x, full], 1), 0)
    return torch.tanh(_conv(decoder, "model.5.conv", x, 3))


def _residual_blocks(state: State, name: str, x: Tensor) -> Tensor:
    count = len({key.split(".")[3] for key in state if key.startswith(f"{name}.model.")})
    for block in range(count):
        inner = _conv(state, f"{name}.model.{block}.model.0.conv", x, 1)
        inner = functional.relu(functional.instance_norm(inner))
        inner = _conv(state, f"{name}.model.{block}.model.1.conv", inner, 1)
        x = x + functional.instance_norm(inner)
    return x


def _conv(state: State, name: str, x: Tensor, padding: int, *, stride: int = 1) -> Tensor:
    padded = functional.pad(x, [padding] * 4, mode="reflect") if padding else x
    return functional.conv2d(padded, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride)


def _layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Over a whole image, divided by the unbiased standard deviation plus epsilon.

    Today's networks divide by the root of the biased variance plus epsilon, which differs in the seventh digit.
    """
    flat = x.flatten(1)
    mean, std = flat.mean(1)[:, None, None, None], flat.std(1)[:, None, None, None]
    normalised = (x - mean) / (std + 1e-5)
    return normalised * state[f"{name}.gamma"].view(1, -1, 1, 1) + state[f"{name}.beta"].view(1, -1, 1, 1)
