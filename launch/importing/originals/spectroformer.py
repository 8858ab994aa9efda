"""Spectroformer from the tensors of a file: what the authors' code and the user's reproduction have in common.

The two differ in names and in a few operations. The two modules beside this one put the parts together.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State


def conv(state: State, name: str, x: Tensor, padding: int = 0, *, depthwise: bool = False) -> Tensor:
    """A convolution by the tensors `name.weight` and, where there is one, `name.bias`."""
    weight = state[f"{name}.weight"]
    return functional.conv2d(
        x, weight, state.get(f"{name}.bias"), padding=padding, groups=weight.shape[0] if depthwise else 1
    )


def channel_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Layer normalisation of the channels of each pixel."""
    moved = x.permute(0, 2, 3, 1)
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return functional.layer_norm(moved, weight.shape, weight, bias).permute(0, 3, 1, 2)


def attention_map(query: Tensor, key: Tensor, temperature: Tensor) -> Tensor:
    """Softmax of the cosines between the channels of queries and keys, (N, heads, C / heads, C / heads)."""
    temperature = temperature.reshape(1, -1, 1, 1)
    heads = temperature.shape[1]
    q, k = (functional.normalize(t.reshape(len(t), heads, -1, t.shape[2] * t.shape[3]), dim=-1) for t in (query, key))
    return torch.softmax(q @ k.transpose(-2, -1) * temperature, -1)


def attend(attention: Tensor, value: Tensor) -> Tensor:
    """Values (N, C, H, W) mixed over the channels of each head."""
    split = value.reshape(len(value), attention.shape[1], -1, value.shape[2] * value.shape[3])
    return (attention @ split).reshape(value.shape)


def stage(
    state: State, name: str, x: Tensor, *, attention: Callable[[State, str, Tensor], Tensor], norm: str, depthwise: str
) -> Tensor:
    """The transformer blocks `name.0`, `name.1`, ...

    Args:
        state: The tensors.
        name: Of the stage.
        x: Features (N, C, H, W).
        attention: Computes a block's attention, given its name.
        norm: What follows `norm1` and `norm2` in the names of the norms' tensors.
        depthwise: Name of the middle convolution of GDFN.
    """
    position = name.count(".") + 1
    for j in range(len({key.split(".")[position] for key in state if key.startswith(f"{name}.")})):
        block = f"{name}.{j}"
        x = x + attention(state, f"{block}.attn", channel_norm(state, f"{block}.norm1{norm}", x))
        x = x + feed_forward(state, f"{block}.ffn", depthwise, channel_norm(state, f"{block}.norm2{norm}", x))
    return x


def feed_forward(state: State, name: str, depthwise: str, x: Tensor) -> Tensor:
    """GDFN; `depthwise` is the file's name of its middle convolution."""
    wide = conv(state, f"{name}.{depthwise}", conv(state, f"{name}.project_in", x), 1, depthwise=True)
    gate, features = wide.chunk(2, 1)
    return conv(state, f"{name}.project_out", functional.gelu(gate) * features)


def fourier_upsample(state: State, magnitude: tuple[str, str], phase: tuple[str, str], post: str, x: Tensor) -> Tensor:
    """Magnitude and phase mixed by two convolutions each, tiled 2 x 2, transformed back, moduli mixed once more."""
    spectrum = torch.fft.fft2(x)

    def mixed(names: tuple[str, str], values: Tensor) -> Tensor:
        return conv(state, names[1], functional.leaky_relu(conv(state, names[0], values), 0.1)).tile(1, 1, 2, 2)

    size, angle = mixed(magnitude, spectrum.abs()), mixed(phase, spectrum.angle())
    return conv(state, post, torch.fft.ifft2(torch.complex(size * angle.cos(), size * angle.sin())).abs())
