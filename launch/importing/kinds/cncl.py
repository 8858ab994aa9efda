"""CNCL: its generator of two U-Nets, and its critic."""

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import critics, kinds
from quell.launch.importing.conversion import Comparison, Conversion, as_batch, doubled, stored_input
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.originals import stacks
from quell.launch.importing.renaming import Rule, rename, swap_halves, with_prefix
from quell.pipelines.base import Pipeline

SCALE = 255.0
"""The original reads grey values of 0 to 255 and divides by their variance, which depends on the unit; here images are
fractions of 255. Scaling the first and the last layers gives the same images."""


def unet_rules(suffix: str) -> list[Rule]:
    """The rules of one of the two U-Nets, by the suffix of its modules' names."""
    convolution = {"1": 0, "2": 3}
    norm = {"1": 1, "2": 4}
    return [
        Rule(rf"upbn1_[12]_{suffix}\..*", None),  # declared, but never called
        Rule(rf"conv5_([12])_{suffix}\.(.*)", lambda m: f"bottom.{convolution[m[1]]}.{m[2]}"),
        Rule(rf"bn5_([12])_{suffix}\.(.*)", lambda m: f"bottom.{norm[m[1]]}.{m[2]}"),
        Rule(rf"conv([1-4])_([12])_{suffix}\.(.*)", lambda m: f"down.{int(m[1]) - 1}.{convolution[m[2]]}.{m[3]}"),
        Rule(rf"bn([1-4])_([12])_{suffix}\.(.*)", lambda m: f"down.{int(m[1]) - 1}.{norm[m[2]]}.{m[3]}"),
        # the original concatenates [upsampled, skip], today's network [skip, upsampled]
        Rule(rf"upconv([2-4])_1_{suffix}\.weight", lambda m: f"up.{4 - int(m[1])}.0.weight", swap_halves),
        Rule(rf"upconv1_1_{suffix}\.weight", "last.0.weight", swap_halves),
        Rule(rf"upconv([2-4])_([12])_{suffix}\.(.*)", lambda m: f"up.{4 - int(m[1])}.{convolution[m[2]]}.{m[3]}"),
        Rule(rf"upbn([2-4])_([12])_{suffix}\.(.*)", lambda m: f"up.{4 - int(m[1])}.{norm[m[2]]}.{m[3]}"),
        Rule(rf"upconv1_([12])_{suffix}\.(.*)", lambda m: f"last.{int(m[1]) - 1}.{m[2]}"),
    ]


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert a generator, and a critic where its file is given too.

    Args:
        files: One or two files.
        own_statistics: Normalise by the statistics of each image, as the original test script does.
    """
    file, others = critics.apart(files)
    state, left_out = critics.without_statistics(file.tensors) if own_statistics else (file.tensors, [])
    weights, dropped = _generator(file, state)
    network = {"name": "unet", "norm": "batch_statistics" if own_statistics else "batch"}
    settings = [f"pipeline.{part}={kinds.inline(network)}" for part in ("content", "noise")]
    settings.append("pipeline.normalisation=variance")
    for other in others:
        critic_settings, critic = critics.convert(other, "pipeline.critic", "critic")
        settings += critic_settings
        weights |= critic
    original_state = doubled(file.tensors)

    def compare(pipeline: Pipeline) -> list[Comparison]:
        image = stored_input()
        raw = image * SCALE
        mean, variance = raw.mean(), raw.var(correction=0)
        fused = stacks.cncl(original_state, (raw - mean) / variance, own_statistics=own_statistics)
        original = (fused * variance + mean) / SCALE
        with torch.no_grad():
            restored = pipeline.restore(as_batch(noisy=image, clean=image))["restored"]
        return [Comparison("restored image", restored, original)]

    grey = ImageKind("uint8", 1)
    images = {"noisy": grey, "clean": grey}
    return Conversion("CNCL", "cncl", settings, weights, images, compare, dropped=[*left_out, *dropped])


def _generator(file: OldFile, state: State) -> tuple[State, list[str]]:
    """The weights of the two U-Nets and of the fusion, for images as fractions of 255."""
    if not {"conv1_1_01.weight", "final_conv.weight"} <= state.keys():
        raise CheckpointError(
            f"{file.path}: not a generator of CNCL (no tensors conv1_1_01.weight and final_conv.weight): choose the "
            "kind of weights that belongs to the file"
        )
    weights: State = {}
    dropped: list[str] = []
    for part, suffix in (("content", "01"), ("noise", "02")):
        own = {name: tensor for name, tensor in state.items() if f"_{suffix}." in name}
        renamed, unused = rename(own, unet_rules(suffix), file.path)
        weights |= with_prefix(_rescaled(renamed), part)
        dropped += unused
    fusion = [Rule(r"final_conv\.(.*)", r"fusion.mix.\1"), Rule(r".*_0[12]\..*", None)]
    renamed, _ = rename(state, fusion, file.path)
    weights |= renamed
    weights["fusion.mix.bias"] = weights["fusion.mix.bias"] * SCALE
    return weights, dropped


def _rescaled(unet: State) -> State:
    """A U-Net that reads and writes numbers SCALE times as large as before."""

    def times(name: str, factor: float) -> Tensor:
        return (unet[name].double() * factor).to(unet[name].dtype)

    return {
        **unet,
        "down.0.0.weight": times("down.0.0.weight", 1 / SCALE),
        "last.1.weight": times("last.1.weight", SCALE),
        "last.1.bias": times("last.1.bias", SCALE),
    }
