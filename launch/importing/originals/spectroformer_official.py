"""Spectroformer as its authors' code computes it, which applies its first attention map twice."""

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State
from quell.launch.importing.originals import spectroformer as parts
from quell.launch.importing.originals.spectroformer import conv


def forward(state: State, x: Tensor) -> Tensor:
    """The enhanced image in [-1, 1] of images (N, 3, H, W) in [-1, 1], sides multiples of 8."""
    x = conv(state, "embed_conv_rgb", x, 1)
    levels = []
    for level in range(4):
        x = _stage(state, f"encoders.{level}", x)
        if level < 3:
            levels.append(x)
            x = functional.pixel_unshuffle(conv(state, f"down{level + 1}.body.0", x, 1), 2)
    for k in (1, 2, 3):  # the coarsest upsampling and decoder come first
        x = torch.cat([_up(state, f"ups_{k}", x), _skip(state, f"attention.{k - 1}", levels[3 - k])], 1)
        if k < 3:
            x = conv(state, f"reduces{k}", x)
        x = _stage(state, f"decoders.{k - 1}", x)
    x = _stage(state, "refinement", x)
    return conv(state, "output", conv(state, "outputl", x, 1), 1)


def _stage(state: State, name: str, x: Tensor) -> Tensor:
    return parts.stage(state, name, x, attention=_attention, norm="", depthwise="conv")


def _attention(state: State, name: str, x: Tensor) -> Tensor:
    first = conv(state, f"{name}.qkv_conv", conv(state, f"{name}.qkv", x), 1, depthwise=True)
    query, key, value = first.chunk(3, 1)
    attention = parts.attention_map(query, key, state[f"{name}.temperature"])
    spatial = conv(state, f"{name}.project_out", parts.attend(attention, value))
    second = conv(state, f"{name}.kv_conv", conv(state, f"{name}.kv", spatial), 1, depthwise=True)
    return conv(state, f"{name}.project_outf", parts.attend(attention, second.chunk(2, 1)[1]))


def _up(state: State, name: str, x: Tensor) -> Tensor:
    magnitude = (f"{name}.Fups.amp_fuse.0", f"{name}.Fups.amp_fuse.2")
    phase = (f"{name}.Fups.pha_fuse.0", f"{name}.Fups.pha_fuse.2")
    spectral = parts.fourier_upsample(state, magnitude, phase, f"{name}.Fups.post", x)
    spatial = functional.pixel_shuffle(conv(state, f"{name}.Sups.body.0", x, 1), 2)
    return conv(state, f"{name}.reduce", torch.cat([spectral, spatial], 1))


def _skip(state: State, name: str, x: Tensor) -> Tensor:
    spatial = functional.prelu(conv(state, f"{name}.conv_1", x), state[f"{name}.relu_1.weight"])
    spatial = functional.conv2d(
        spatial, state[f"{name}.conv_2.weight"], state[f"{name}.conv_2.bias"], padding=1, groups=x.shape[1]
    )
    spatial = functional.prelu(spatial, state[f"{name}.relu_2.weight"])
    mixed = conv(state, f"{name}.conv_f2", functional.gelu(conv(state, f"{name}.conv_f1", torch.fft.fft2(x).real)))
    spectral = torch.fft.ifft2(mixed).real
    spatial = _gate(state, f"{name}.agssf", spatial) + conv(state, f"{name}.identity1", x)
    spectral = _gate(state, f"{name}.agssf", spectral) + conv(state, f"{name}.identity2", x)
    return conv(state, f"{name}.con2X1", torch.cat([spatial, spectral], 1))


def _gate(state: State, name: str, x: Tensor) -> Tensor:
    angle = torch.fft.fft2(x).angle()
    phase_only = torch.fft.ifft2(torch.complex(angle.cos(), angle.sin())).real
    weight = state[f"{name}.conv.weight"]
    mean = phase_only.mean((2, 3))[:, None]
    return x * torch.sigmoid(functional.conv1d(mean, weight, padding=weight.shape[-1] // 2))[:, 0, :, None, None]
