"""Weights files as other programs wrote them: the names and shapes of their tensors, with random values.

The numbers of tensors and parameters are those of the real files (tests/launch/importing/test_kinds.py compares them).
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]


class Builder:
    """Collects random tensors under the names of a file."""

    def __init__(self, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def add(self, name: str, *shape: int, scale: float | None = None, dtype: torch.dtype = torch.float32) -> None:
        """A tensor whose values keep the size of activations."""
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        size = scale if scale is not None else (1.5 / fan_in) ** 0.5
        self.state[name] = size * torch.randn(shape, generator=self.random, dtype=dtype)

    def conv(
        self, name: str, out: int, into: int, kernel: int, *, bias: bool = True, dtype: torch.dtype = torch.float32
    ) -> None:
        """A convolution."""
        self.add(f"{name}.weight", out, into, kernel, kernel, dtype=dtype)
        if bias:
            self.add(f"{name}.bias", out, scale=0.05, dtype=dtype)

    def norm(self, name: str, channels: int, *, averages: bool = True) -> None:
        """A batch norm, or the scale and shift of another norm."""
        self.state[f"{name}.weight"] = 1 + 0.1 * torch.randn(channels, generator=self.random)
        self.state[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=self.random)
        if averages:
            self.state[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=self.random)
            self.state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=self.random)
            self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def dncnn(*, depth: int, bias: bool, averages: bool, prefix: str = "") -> State:
    """The DnCNN of TCFL (depth 10) and R2R (depth 17)."""
    build = Builder()
    build.conv(f"{prefix}dncnn.0", 64, 1, 3, bias=bias)
    for layer in range(depth - 2):
        build.conv(f"{prefix}dncnn.{2 + 3 * layer}", 64, 64, 3, bias=bias)
        build.norm(f"{prefix}dncnn.{3 + 3 * layer}", 64, averages=averages)
    build.conv(f"{prefix}dncnn.{3 * depth - 4}", 1, 64, 3, bias=bias)
    return build.state


def srdensenet() -> State:
    """The TCFL reproduction's SRDenseNet."""
    build = Builder()
    build.conv("conv1", 16, 1, 3)
    for i in range(64):
        build.conv(f"dense{i // 8 + 1}.{i % 8}.conv", 16, 16 * (i + 1), 3)
    build.conv("Bottleneck", 256, 16 * 65, 1)
    build.conv("conv2", 1, 256, 3)
    return build.state


def critic(channels: int, *, last: int, bias: bool) -> State:
    """A PatchGAN critic whose last convolution has this index."""
    build = Builder()
    for index, (into, out) in {0: (channels, 64), 2: (64, 128), 5: (128, 256), 8: (256, 512)}.items():
        build.conv(f"model.{index}", out, into, 4)
    build.conv(f"model.{last}", 1, 512, 4, bias=bias)
    return build.state


def cncl_unet(build: Builder, suffix: str) -> None:
    """One of CNCL's U-Nets, with the two batch norms that are never called."""
    widths = [1, 64, 128, 256, 512]
    for level in (1, 2, 3, 4):
        for j, (into, out) in ((1, (widths[level - 1], widths[level])), (2, (widths[level], widths[level]))):
            build.conv(f"conv{level}_{j}_{suffix}", out, into, 3)
            build.norm(f"bn{level}_{j}_{suffix}", out)
    for j, (into, out) in ((1, (512, 1024)), (2, (1024, 512))):
        build.conv(f"conv5_{j}_{suffix}", out, into, 3)
        build.norm(f"bn5_{j}_{suffix}", out)
    upwards = {4: (1024, 512, 256), 3: (512, 256, 128), 2: (256, 128, 64), 1: (128, 32, 1)}
    for level, channels in upwards.items():
        for j, (into, out) in enumerate(itertools.pairwise(channels), start=1):
            build.conv(f"upconv{level}_{j}_{suffix}", out, into, 3)
            if level > 1:
                build.norm(f"upbn{level}_{j}_{suffix}", out)
    for j, width in ((1, 32), (2, 64)):
        build.norm(f"upbn1_{j}_{suffix}", width)


def cncl() -> State:
    """CNCL's generator."""
    build = Builder()
    for suffix in ("01", "02"):
        cncl_unet(build, suffix)
    build.conv("final_conv", 1, 2, 1)
    return build.state


def tcfl_unet() -> State:
    """The TCFL reproduction's U-Net."""
    build = Builder()
    cncl_unet(build, "02")
    return build.state


def drgan() -> dict[str, State]:
    """DRGAN's seven networks by the beginning of their file names."""
    content, noise, clean = Builder(1), Builder(2), Builder(3)
    for build in (content, noise):
        for index, (into, out, kernel) in enumerate(((1, 64, 7), (64, 128, 4), (128, 256, 4))):
            build.conv(f"model.{index}.conv", out, into, kernel)
    _drgan_blocks(content, "model.3")
    noise.conv("model.4", 8, 256, 1)
    _drgan_decoder(clean, "")
    noisy = Builder(4)
    _drgan_decoder(noisy, "dec.")
    for block in range(4):
        for j in (0, 1):
            for kind in ("mean", "var"):
                noisy.add(f"dec.model.0.model.{block}.model.{j}.norm.running_{kind}", 256)
    for index, (into, out) in enumerate(((8, 256), (256, 256), (256, 4096))):
        noisy.add(f"mlp.model.{index}.fc.weight", out, into)
        noisy.add(f"mlp.model.{index}.fc.bias", out, scale=0.05)
    critics = {name: critic(1, last=11, bias=True) for name in ("netD_C", "netD_N", "netD_PN")}
    states = {"netE_C": content.state, "netE_N": noise.state, "netG_C": clean.state, "netG_N": noisy.state}
    return {**states, **critics}


def _drgan_blocks(build: Builder, name: str) -> None:
    for block in range(4):
        for j in (0, 1):
            build.conv(f"{name}.model.{block}.model.{j}.conv", 256, 256, 3)


def _drgan_decoder(build: Builder, prefix: str) -> None:
    for index, channels in enumerate((256, 128, 64)):
        build.conv(f"{prefix}concat_convs.{index}", channels, 2 * channels, 1)
    _drgan_blocks(build, f"{prefix}model.0")
    for index, (into, out) in ((2, (256, 128)), (4, (128, 64))):
        build.add(f"{prefix}model.{index}.norm.gamma", out, scale=1.0)
        build.add(f"{prefix}model.{index}.norm.beta", out, scale=0.1)
        build.conv(f"{prefix}model.{index}.conv", out, into, 5)
    build.conv(f"{prefix}model.5.conv", 1, 64, 7)


def contrast(
    *, channels: int = 1, is_complex: bool = False, latent: int = 256, decoder: tuple[int, ...] = (256, 128, 64)
) -> dict[str, State]:
    """The networks in a `best.pt` of Contrast2Contrast."""
    dtype = torch.complex64 if is_complex else torch.float32
    encoder = Builder(1)

    def double(build: Builder, name: str, into: int, out: int) -> None:
        for j, before in ((1, into), (2, out)):
            build.conv(f"{name}.conv{j}", out, before, 3, bias=False, dtype=dtype)
            build.norm(f"{name}.bn{j}", out, averages=False)

    double(encoder, "inc", channels, 64)
    double(encoder, "downs.0.maxpool_conv.0", 64, 128)
    double(encoder, "downs.1.maxpool_conv.0", 128, 256)
    encoder.conv("bottleneck", latent, 256, 1, dtype=dtype)
    states = {"encoder": encoder.state}
    for seed, name in enumerate(("decoder_a", "decoder_b"), start=2):
        build = Builder(seed)
        build.conv("expand", decoder[0], latent, 1, dtype=dtype)
        for i, (into, out) in enumerate(itertools.pairwise(decoder)):
            build.add(f"ups.{i}.up.weight", into, into // 2, 2, 2, dtype=dtype)
            build.add(f"ups.{i}.up.bias", into // 2, scale=0.05, dtype=dtype)
            double(build, f"ups.{i}.conv", into, out)
        build.conv("outc", channels, decoder[-1], 1, dtype=dtype)
        states[name] = build.state
    return states


def spectroformer_official() -> State:
    """The authors' Spectroformer, with the five modules that nothing calls."""
    build = Builder()
    widths, heads, blocks = (16, 32, 64, 128), (1, 2, 4, 8), (2, 3, 3, 4)

    def stage(name: str, channels: int, count: int, number: int) -> None:
        hidden = int(channels * 2.66)
        for j in range(number):
            own = f"{name}.{j}"
            build.norm(f"{own}.norm1", channels, averages=False)
            build.norm(f"{own}.norm2", channels, averages=False)
            build.add(f"{own}.attn.temperature", 1, count, 1, 1, scale=1.0)
            for part, out, into, kernel in (
                ("qkv", 3 * channels, channels, 1), ("qkv_conv", 3 * channels, 1, 3),
                ("project_out", channels, channels, 1),
                ("q1X1_1", channels, channels, 1), ("q1X1_2", channels, channels, 1), ("kv", 2 * channels, channels, 1),
                ("kv_conv", 2 * channels, 1, 3), ("project_outf", channels, channels, 1),
            ):  # fmt: skip
                build.conv(f"{own}.attn.{part}", out, into, kernel, bias=False)
            build.conv(f"{own}.ffn.project_in", 2 * hidden, channels, 1, bias=False)
            build.conv(f"{own}.ffn.conv", 2 * hidden, 1, 3, bias=False)
            build.conv(f"{own}.ffn.project_out", channels, hidden, 1, bias=False)

    build.conv("embed_conv_rgb", 16, 3, 3, bias=False)
    for level in range(4):
        stage(f"encoders.{level}", widths[level], heads[level], blocks[level])
    for k, (channels, count, number) in enumerate(((64, 4, 3), (32, 2, 3), (32, 1, 2))):
        stage(f"decoders.{k}", channels, count, number)
    stage("refinement", 32, 1, 4)
    for k, channels in enumerate((16, 32, 64), start=1):
        build.conv(f"down{k}.body.0", channels // 2, channels, 3, bias=False)
    for k, channels in enumerate((128, 64, 32, 4), start=1):
        _official_up(build, f"ups_{k}", channels if k < 4 else 3)
    for k, channels in enumerate((64, 32, 16, 64)):
        _official_skip(build, f"attention.{k}", channels)
    for name, out, into in (("ups1", 32, 64), ("ups2", 16, 32)):
        build.conv(f"{name}.body.0", out, into, 3, bias=False)
    build.conv("reduces1", 64, 128, 1, bias=False)
    build.conv("reduces2", 32, 64, 1, bias=False)
    build.conv("output1", 8, 16, 3, bias=False)
    build.conv("outputl", 8, 32, 3, bias=False)
    build.conv("output", 3, 8, 3, bias=False)
    return build.state


def _official_up(build: Builder, name: str, channels: int) -> None:
    for part in ("amp_fuse.0", "amp_fuse.2", "pha_fuse.0", "pha_fuse.2"):
        build.conv(f"{name}.Fups.{part}", channels, channels, 1)
    build.conv(f"{name}.Fups.post", channels // 2, channels, 1)
    build.conv(f"{name}.Sups.body.0", 2 * channels, channels, 3, bias=False)
    build.conv(f"{name}.reduce", channels // 2, channels, 1, bias=False)


def _official_skip(build: Builder, name: str, channels: int) -> None:
    build.conv(f"{name}.conv_1", 2 * channels, channels, 1)
    build.add(f"{name}.relu_1.weight", 1, scale=0.2)
    build.conv(f"{name}.conv_2", channels, 2, 3)
    build.add(f"{name}.relu_2.weight", 1, scale=0.2)
    for part in ("conv_f1", "conv_f2", "identity1", "identity2"):
        build.conv(f"{name}.{part}", channels, channels, 1)
    build.add(f"{name}.agssf.conv.weight", 1, 1, 3)
    build.conv(f"{name}.con2X1", channels, 2 * channels, 1)


def spectroformer_reproduction(width: int = 16, blocks: tuple[int, ...] = (2, 3, 3, 4), refinement: int = 4) -> State:
    """The user's Spectroformer."""
    build = Builder()
    widths, heads = [width * 2**level for level in range(4)], (1, 2, 4, 8)

    def stage(name: str, channels: int, count: int, number: int) -> None:
        hidden = int(channels * 2.66)
        for j in range(number):
            own = f"{name}.{j}"
            build.norm(f"{own}.norm1.body", channels, averages=False)
            build.norm(f"{own}.norm2.body", channels, averages=False)
            build.add(f"{own}.attn.temperature", count, 1, 1, scale=1.0)
            for part, out, into, kernel in (
                ("qkv1", 3 * channels, channels, 1), ("qkv1_dwconv", 3 * channels, 1, 3),
                ("project_out1", channels, channels, 1),
                ("fdfp.conv1", 2 * channels, 2 * channels, 1), ("fdfp.conv2", 2 * channels, 2 * channels, 1),
                ("kv2", 2 * channels, channels, 1), ("kv2_dwconv", 2 * channels, 1, 3),
                ("project_out2", channels, channels, 1),
            ):  # fmt: skip
                build.conv(f"{own}.attn.{part}", out, into, kernel, bias=False)
            build.conv(f"{own}.ffn.project_in", 2 * hidden, channels, 1, bias=False)
            build.conv(f"{own}.ffn.dwconv", 2 * hidden, 1, 3, bias=False)
            build.conv(f"{own}.ffn.project_out", channels, hidden, 1, bias=False)

    build.conv("patch_embed", width, 3, 3, bias=False)
    for level in range(3):
        channels, number, count = widths[level], blocks[level], heads[level]
        stage(f"encoder_level{level + 1}", channels, count, number)
        stage(f"decoder_level{level + 1}", channels, count, number)
        down, up, skip = f"down{level + 1}_{level + 2}", f"up{level + 2}_{level + 1}", f"ssfb{level + 1}"
        build.conv(f"{down}.body.0", channels // 2, channels, 3, bias=False)
        build.conv(f"{down}.adjust", 2 * channels, 2 * channels, 1, bias=False)
        wide = 2 * channels
        for part in ("amp_conv1", "amp_conv2", "pha_conv1", "pha_conv2"):
            build.conv(f"{up}.dfu.{part}", wide, wide, 1, bias=False)
        build.conv(f"{up}.dfu.post", channels, wide, 1, bias=False)
        build.conv(f"{up}.spatial_up.0", 2 * wide, wide, 3, bias=False)
        build.conv(f"{up}.fusion", channels, wide, 1, bias=False)
        build.conv(f"{skip}.spatial_conv1", channels, channels, 1, bias=False)
        build.add(f"{skip}.spatial_act.weight", 1, scale=0.2)
        build.conv(f"{skip}.spatial_dwconv", channels, 1, 3, bias=False)
        for part in ("spectral_conv1", "spectral_conv2"):
            build.conv(f"{skip}.{part}", wide, wide, 1, bias=False)
        for part in ("identity_spatial", "identity_spectral", "fusion_conv"):
            build.conv(f"{skip}.{part}", channels, channels, 1, bias=False)
        build.add(f"{skip}.akc.conv.weight", 1, 1, 3)
        build.conv(f"{skip}.compress", channels, wide, 1, bias=False)
    stage("bottleneck", widths[3], heads[3], blocks[3])
    stage("refinement", width, 1, refinement)
    build.conv("output", 3, width, 3, bias=False)
    return build.state


def save(state: object, path: Path) -> Path:
    """Write a file as torch.save does."""
    torch.save(state, path)
    return path


def counts(state: State) -> tuple[int, int]:
    """Tensors of a state, and the numbers in its parameters."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return len(state), sum(tensor.numel() for name, tensor in state.items() if not name.endswith(buffers))


SINGLE_FILES: dict[str, tuple[str, Callable[[], State], int, int]] = {
    "TCFL, official DnCNN": ("tcfl", lambda: dncnn(depth=10, bias=False, averages=True), 50, 297_088),
    "TCFL reproduction, DnCNN": ("tcfl", lambda: dncnn(depth=10, bias=True, averages=False), 36, 297_665),
    "TCFL reproduction, SRDenseNet": ("tcfl", srdensenet, 134, 5_062_305),
    "TCFL reproduction, U-Net": ("tcfl", tcfl_unet, 126, 21_912_705),
    "CNCL": ("cncl", cncl, 254, 43_825_413),
    "R2R, DnCNN": ("r2r", lambda: dncnn(depth=17, bias=False, averages=True, prefix="module."), 92, 556_032),
    "Spectroformer, the authors', small": ("spectroformer", spectroformer_official, 511, 2_511_081),
    "Spectroformer, reproduction, small": ("spectroformer", spectroformer_reproduction, 443, 2_992_892),
}
"""Variant -> kind, builder, tensors and parameters of the real files."""
