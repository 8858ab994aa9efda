"""Spectroformer as the user's reproduction of the paper's text computes it."""

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State
from quell.launch.importing.originals import spectroformer as parts
from quell.launch.importing.originals.spectroformer import conv


def forward(state: State, image: Tensor) -> Tensor:
    """The enhanced image of images (N, 3, H, W) in [0, 1], sides multiples of 8."""
    x = conv(state, "patch_embed", image, 1)
    levels = []
    for level in (1, 2, 3):
        x = _stage(state, f"encoder_level{level}", x)
        levels.append(x)
        name = f"down{level}_{level + 1}"
        x = conv(state, f"{name}.adjust", functional.pixel_unshuffle(conv(state, f"{name}.body.0", x, 1), 2))
    x = _stage(state, "bottleneck", x)
    for level in (3, 2, 1):
        joined = torch.cat([_skip(state, f"ssfb{level}", levels[level - 1]), _up(state, level, x)], 1)
        x = _stage(state, f"decoder_level{level}", conv(state, f"ssfb{level}.compress", joined))
    return conv(state, "output", _stage(state, "refinement", x), 1) + image


def _stage(state: State, name: str, x: Tensor) -> Tensor:
    return parts.stage(state, name, x, attention=_attention, norm=".body", depthwise="dwconv")


def _attention(state: State, name: str, x: Tensor) -> Tensor:
    temperature = state[f"{name}.temperature"]
    first = conv(state, f"{name}.qkv1_dwconv", conv(state, f"{name}.qkv1", x), 1, depthwise=True)
    query, key, value = first.chunk(3, 1)
    spatial = conv(state, f"{name}.project_out1", parts.attend(parts.attention_map(query, key, temperature), value))
    second = conv(state, f"{name}.kv2_dwconv", conv(state, f"{name}.kv2", spatial), 1, depthwise=True)
    key, value = second.chunk(2, 1)
    query = _filtered(state, f"{name}.fdfp.conv1", f"{name}.fdfp.conv2", x)
    return conv(state, f"{name}.project_out2", parts.attend(parts.attention_map(query, key, temperature), value))


def _filtered(state: State, first: str, second: str, x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft2(x, norm="ortho")
    mixed = conv(state, second, functional.gelu(conv(state, first, torch.cat([spectrum.real, spectrum.imag], 1))))
    real, imaginary = mixed.chunk(2, 1)
    return torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[-2:], norm="ortho")


def _up(state: State, level: int, x: Tensor) -> Tensor:
    name = f"up{level + 1}_{level}"
    magnitude = (f"{name}.dfu.amp_conv1", f"{name}.dfu.amp_conv2")
    phase = (f"{name}.dfu.pha_conv1", f"{name}.dfu.pha_conv2")
    spectral = parts.fourier_upsample(state, magnitude, phase, f"{name}.dfu.post", x)
    spatial = functional.pixel_shuffle(conv(state, f"{name}.spatial_up.0", x, 1), 2)
    return conv(state, f"{name}.fusion", torch.cat([spectral, spatial], 1))


def _skip(state: State, name: str, x: Tensor) -> Tensor:
    spatial = functional.prelu(conv(state, f"{name}.spatial_conv1", x), state[f"{name}.spatial_act.weight"])
    spatial = conv(state, f"{name}.spatial_dwconv", spatial, 1, depthwise=True)
    spectral = _filtered(state, f"{name}.spectral_conv1", f"{name}.spectral_conv2", x)
    spatial = spatial + conv(state, f"{name}.identity_spatial", x)
    spectral = spectral + conv(state, f"{name}.identity_spectral", x)
    fused = conv(state, f"{name}.fusion_conv", spatial + spectral)
    weight = state[f"{name}.akc.conv.weight"]
    mean = fused.mean((2, 3))[:, None]
    gate = torch.sigmoid(functional.conv1d(mean, weight, padding=weight.shape[-1] // 2))
    return fused * gate[:, 0, :, None, None]
