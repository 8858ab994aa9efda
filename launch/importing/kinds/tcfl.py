"""TCFL: the official generator and the reproduction's three, with their critics."""

from collections.abc import Callable

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import critics, kinds
from quell.launch.importing.conversion import Comparison, Conversion, doubled, stored_input
from quell.launch.importing.kinds import cncl
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.originals import stacks
from quell.launch.importing.renaming import Rule, rename, with_prefix
from quell.pipelines.base import Pipeline

DNCNN = [Rule(r"dncnn\.(\d+\..*)", r"layers.\1")]
SRDENSENET = [
    Rule(r"conv1\.(.*)", r"first.\1"),
    Rule(r"dense(\d+)\.(\d+)\.conv\.(.*)", lambda m: f"dense.{8 * (int(m[1]) - 1) + int(m[2])}.{m[3]}"),
    Rule(r"Bottleneck\.(.*)", r"bottleneck.\1"),
    Rule(r"conv2\.(.*)", r"last.\1"),
]

Forward = Callable[[State, Tensor], Tensor]


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert a generator, and a critic where its file is given too.

    Args:
        files: One or two files.
        own_statistics: Normalise by the statistics of each image, as the official test script does.
    """
    file, others = critics.apart(files)
    variant, base, network, weights, forward, dropped = _generator(file, own_statistics)
    settings = [f"pipeline.generator={kinds.inline(network)}", "pipeline.batch_passes=false"]
    for other in others:
        critic_settings, critic = critics.convert(other, "pipeline.critic", "critic")
        settings += critic_settings
        weights |= critic
    state = doubled(file.tensors)

    def compare(pipeline: Pipeline) -> list[Comparison]:
        image = stored_input()
        with torch.no_grad():
            return [Comparison("noise", pipeline.get_submodule("generator")(image), forward(state, image))]

    grey = ImageKind("uint8", 1)
    images = {"noisy": grey, "noisy_other": grey, "unpaired_clean": grey}
    return Conversion(variant, base, settings, weights, images, compare, dropped=dropped)


def depth_of(state: State) -> int:
    """Convolutions of a `dncnn.I` stack, which ends at I = 3 depth - 4."""
    return (max(int(name.split(".")[1]) for name in state) + 4) // 3


def _generator(file: OldFile, own_statistics: bool) -> tuple[str, str, dict[str, object], State, Forward, list[str]]:
    """Variant, YAML, network, weights, original and dropped names of a generator."""
    state = file.tensors
    dropped: list[str] = []
    if own_statistics:
        state, dropped = critics.without_statistics(state)
    if "dncnn.0.weight" in state:
        weights, more = rename(state, DNCNN, file.path)
        is_reproduction = "dncnn.0.bias" in state
        has_averages = any(name.endswith("running_mean") for name in state)
        slope = 0.2 if is_reproduction else 0.01
        depth = depth_of(state)
        network: dict[str, object] = {
            "name": "dncnn",
            "depth": depth,
            "bias": is_reproduction,
            "norm": "batch" if has_averages else "batch_statistics",
            "activation": "leaky_relu",
            "slope": slope,
            "residual": False,
        }
        variant = "TCFL reproduction, DnCNN" if is_reproduction else "TCFL, official DnCNN"

        def forward(original: State, x: Tensor) -> Tensor:
            return stacks.dncnn(original, x, slope=slope, own_statistics=own_statistics)

        base = "tcfl_wgan" if is_reproduction else "tcfl"
        return variant, base, network, with_prefix(weights, "generator"), forward, dropped + more
    if "dense1.0.conv.weight" in state:
        weights, more = rename(state, SRDENSENET, file.path)
        network = {"name": "srdensenet", "residual": False}
        variant = "TCFL reproduction, SRDenseNet"
        return variant, "tcfl_wgan", network, with_prefix(weights, "generator"), stacks.srdensenet, dropped + more
    if "conv1_1_02.weight" in state and "final_conv.weight" not in state:
        weights, more = rename(state, cncl.unet_rules("02"), file.path)
        has_averages = any(name.endswith("running_mean") for name in state)
        network = {"name": "unet", "norm": "batch" if has_averages else "batch_statistics"}

        def forward_unet(original: State, x: Tensor) -> Tensor:
            return stacks.cncl_unet(original, x, "02", own_statistics=own_statistics)

        variant = "TCFL reproduction, U-Net"
        return variant, "tcfl_wgan", network, with_prefix(weights, "generator"), forward_unet, dropped + more
    raise CheckpointError(
        f"{file.path}: none of TCFL's generators (tensors dncnn.0.weight, dense1.0.conv.weight or conv1_1_02.weight): "
        "choose the kind of weights that belongs to the file"
    )
