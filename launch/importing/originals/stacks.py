"""DnCNN and SRDenseNet of TCFL and R2R, and CNCL's U-Net, from the tensors of their files."""

import torch
from torch import Tensor
from torch.nn import functional

from quell.launch.importing.old_files import State


def dncnn(state: State, x: Tensor, *, slope: float, own_statistics: bool = False) -> Tensor:
    """The output of the last convolution of a `dncnn.I` stack.

    Args:
        state: The tensors.
        x: Images (N, C, H, W).
        slope: Of the activation below zero; 0 is ReLU.
        own_statistics: Normalise by the statistics of `x` even if the file has running averages.
    """
    indices = sorted({int(name.split(".")[1]) for name in state})
    convolutions = [i for i in indices if state[f"dncnn.{i}.weight"].ndim == 4]
    for i in indices:
        if i in convolutions:
            x = functional.conv2d(x, state[f"dncnn.{i}.weight"], state.get(f"dncnn.{i}.bias"), padding=1)
        else:
            x = _batch_norm(state, f"dncnn.{i}", x, own_statistics)
        is_followed_by_norm = i + 1 in indices and i + 1 not in convolutions
        if not is_followed_by_norm and i != indices[-1]:
            x = functional.leaky_relu(x, slope)
    return x


def srdensenet(state: State, x: Tensor) -> Tensor:
    """The output of an SRDenseNet without upsampling."""
    x = functional.relu(_conv(state, "conv1", x, 1))
    names = {name.rpartition(".conv.")[0] for name in state if name.startswith("dense")}
    for name in sorted(names, key=lambda name: [int(part) for part in name.removeprefix("dense").split(".")]):
        x = torch.cat([x, functional.relu(_conv(state, f"{name}.conv", x, 1))], 1)
    return _conv(state, "conv2", _conv(state, "Bottleneck", x, 0), 1)


def cncl_unet(state: State, x: Tensor, suffix: str, *, own_statistics: bool = False) -> Tensor:
    """One of the two U-Nets of CNCL's generator: `01` predicts the content, `02` the noise."""

    def block(kind: str, level: int, x: Tensor) -> Tensor:
        for j in (1, 2):
            x = _conv(state, f"{kind}conv{level}_{j}_{suffix}", x, 1)
            x = functional.relu(_batch_norm(state, f"{kind}bn{level}_{j}_{suffix}", x, own_statistics))
        return x

    skips = []
    for level in (1, 2, 3, 4):
        x = block("", level, x)
        skips.append(x)
        x = functional.max_pool2d(x, 2)
    x = block("", 5, x)
    for level in (4, 3, 2, 1):
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = torch.cat([x, skips.pop()], 1)
        if level > 1:
            x = block("up", level, x)
    return _conv(state, f"upconv1_2_{suffix}", _conv(state, f"upconv1_1_{suffix}", x, 1), 1)


def cncl(state: State, x: Tensor, *, own_statistics: bool = False) -> Tensor:
    """The fused clean image of CNCL's generator."""
    content = cncl_unet(state, x, "01", own_statistics=own_statistics)
    noise = cncl_unet(state, x, "02", own_statistics=own_statistics)
    return _conv(state, "final_conv", torch.cat([content, x - noise], 1), 0)


def _conv(state: State, name: str, x: Tensor, padding: int) -> Tensor:
    return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=padding)


def _batch_norm(state: State, name: str, x: Tensor, own_statistics: bool) -> Tensor:
    mean, variance = state.get(f"{name}.running_mean"), state.get(f"{name}.running_var")
    own = own_statistics or mean is None
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if own:
        mean = variance = None
    return functional.batch_norm(x, mean, variance, weight, bias, training=own, eps=1e-5)
