"""Spectroformer: the authors' network and the user's reproduction in three sizes."""

import torch

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import kinds
from quell.launch.importing.conversion import Comparison, Conversion, as_batch, doubled, stored_input
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.originals import spectroformer_official, spectroformer_reproduction
from quell.launch.importing.renaming import Rule, rename, swap_halves, with_prefix
from quell.models.spectroformer import SIZES
from quell.pipelines.base import Pipeline

AUTHORS = "the authors'"
_OFFICIAL_BLOCK = {
    "attn.temperature": "attention.temperature",
    "attn.qkv": "attention.first.0",
    "attn.qkv_conv": "attention.first.1",
    "attn.project_out": "attention.between",
    "attn.kv": "attention.second.0",
    "attn.kv_conv": "attention.second.1",
    "attn.project_outf": "attention.out",
    "ffn.project_in": "feed.wide.0",
    "ffn.conv": "feed.wide.1",
    "ffn.project_out": "feed.out",
    "norm1": "norm1",
    "norm2": "norm2",
}
_REPRODUCTION_BLOCK = {
    "attn.temperature": "attention.temperature",
    "attn.qkv1": "attention.first.0",
    "attn.qkv1_dwconv": "attention.first.1",
    "attn.project_out1": "attention.between",
    "attn.fdfp.conv1": "attention.query.mix.0",
    "attn.fdfp.conv2": "attention.query.mix.2",
    "attn.kv2": "attention.second.0",
    "attn.kv2_dwconv": "attention.second.1",
    "attn.project_out2": "attention.out",
    "ffn.project_in": "feed.wide.0",
    "ffn.dwconv": "feed.wide.1",
    "ffn.project_out": "feed.out",
    "norm1.body": "norm1",
    "norm2.body": "norm2",
}
_OFFICIAL_SKIP = {
    "conv_1": "space.0",
    "relu_1": "space.1",
    "conv_2": "space.2",
    "relu_2": "space.3",
    "conv_f1": "spectrum.mix.0",
    "conv_f2": "spectrum.mix.2",
    "agssf.conv": "gate.mix",
    "identity1": "space_identity",
    "identity2": "spectrum_identity",
    "con2X1": "fuse",
}
_REPRODUCTION_SKIP = {
    "spatial_conv1": "space.0",
    "spatial_act": "space.1",
    "spatial_dwconv": "space.2",
    "spectral_conv1": "spectrum.mix.0",
    "spectral_conv2": "spectrum.mix.2",
    "identity_spatial": "space_identity",
    "identity_spectral": "spectrum_identity",
    "fusion_conv": "fuse",
    "akc.conv": "gate.mix",
}
_OFFICIAL_UP = {
    "Fups.amp_fuse.0": "fourier.magnitude.0",
    "Fups.amp_fuse.2": "fourier.magnitude.2",
    "Fups.pha_fuse.0": "fourier.phase.0",
    "Fups.pha_fuse.2": "fourier.phase.2",
    "Fups.post": "fourier.post",
    "Sups.body.0": "space.0",
    "reduce": "fuse",
}
_REPRODUCTION_UP = {
    "dfu.amp_conv1": "fourier.magnitude.0",
    "dfu.amp_conv2": "fourier.magnitude.2",
    "dfu.pha_conv1": "fourier.phase.0",
    "dfu.pha_conv2": "fourier.phase.2",
    "dfu.post": "fourier.post",
    "spatial_up.0": "space.0",
    "fusion": "fuse",
}


def _parts(stage: str, number: int, where: str, names: dict[str, str], end: str = r"\.(weight|bias)") -> list[Rule]:
    """Rules for every part of one module: `stage` matches its name, `where` says where it is here.

    `number` is how many groups `stage` has; both `where` and the pattern count from them.
    """
    rules = []
    for old, new in names.items():
        is_parameter = old.endswith("temperature")
        pattern = stage + r"\." + old.replace(".", r"\.") + ("" if is_parameter else end)
        rules.append(Rule(pattern, f"{where}.{new}" + ("" if is_parameter else rf".\{number + 1}")))
    return rules


def _official() -> list[Rule]:
    rules = [
        # declared, but never called; and the query of an attention map that is computed and not applied
        Rule(r"attention\.3\..*", None),
        Rule(r"ups_4\..*", None),
        Rule(r"(ups1|ups2)\.body\.0\.weight|output1\.weight", None),
        Rule(r".*\.attn\.q1X1_[12]\..*", None),
        Rule(r"embed_conv_rgb\.weight", "embed.weight"),
        Rule(r"down([123])\.body\.0\.weight", lambda m: f"down.{int(m[1]) - 1}.narrow.weight"),
        Rule(r"reduces([12])\.weight", lambda m: f"fuse.{3 - int(m[1])}.weight"),
        Rule(r"outputl\.weight", "head.0.weight"),
        Rule(r"output\.weight", "head.1.weight"),
        *_parts(r"encoders\.(\d)\.(\d+)", 2, r"encoder.\1.\2", _OFFICIAL_BLOCK),
        *_parts(r"refinement\.(\d+)", 1, r"refinement.\1", _OFFICIAL_BLOCK),
    ]
    for level in range(3):
        rules += _parts(rf"decoders\.{2 - level}\.(\d+)", 1, rf"decoder.{level}.\1", _OFFICIAL_BLOCK)
        rules += _parts(rf"attention\.{2 - level}", 0, f"skip.{level}", _OFFICIAL_SKIP)
        rules += _parts(rf"ups_{3 - level}", 0, f"up.{level}", _OFFICIAL_UP)
    return rules


def _reproduction() -> list[Rule]:
    rules = [
        Rule(r"patch_embed\.weight", "embed.weight"),
        Rule(r"output\.weight", "head.weight"),
        # the original concatenates [skip, upsampled], today's network [upsampled, skip]
        Rule(r"ssfb([123])\.compress\.weight", lambda m: f"fuse.{int(m[1]) - 1}.weight", swap_halves),
        *_parts(r"bottleneck\.(\d+)", 1, r"encoder.3.\1", _REPRODUCTION_BLOCK),
        *_parts(r"refinement\.(\d+)", 1, r"refinement.\1", _REPRODUCTION_BLOCK),
    ]
    for level in range(3):
        rules += _parts(rf"encoder_level{level + 1}\.(\d+)", 1, rf"encoder.{level}.\1", _REPRODUCTION_BLOCK)
        rules += _parts(rf"decoder_level{level + 1}\.(\d+)", 1, rf"decoder.{level}.\1", _REPRODUCTION_BLOCK)
        down = {"body.0": "narrow", "adjust": "adjust"}
        rules += _parts(rf"down{level + 1}_{level + 2}", 0, f"down.{level}", down)
        rules += _parts(rf"up{level + 2}_{level + 1}", 0, f"up.{level}", _REPRODUCTION_UP)
        rules += _parts(rf"ssfb{level + 1}", 0, f"skip.{level}", _REPRODUCTION_SKIP)
    return rules


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert a network; it has no batch norms, so `own_statistics` is refused."""
    if len(files) != 1 or own_statistics:
        raise CheckpointError("Spectroformer's weights are one file, and its networks have no batch statistics")
    state = files[0].tensors
    is_official = "embed_conv_rgb.weight" in state
    embed = state.get("embed_conv_rgb.weight", state.get("patch_embed.weight"))
    if embed is None:
        raise CheckpointError(
            f"{files[0].path}: no network of Spectroformer (tensor embed_conv_rgb.weight of the authors' code, or "
            "patch_embed.weight of the reproduction): choose the kind of weights that belongs to the file"
        )
    size = next((name for name, (width, *_) in SIZES.items() if width == embed.shape[0]), None)
    if size is None or (is_official and size != "small"):
        raise CheckpointError(f"{files[0].path}: no size of Spectroformer has {embed.shape[0]} channels at full size")
    weights, dropped = rename(state, _official() if is_official else _reproduction(), files[0].path)
    temperatures = [name for name in weights if name.endswith("temperature")]
    weights |= {name: weights[name].reshape(1, -1, 1, 1) for name in temperatures}
    return _conversion(size, is_official, with_prefix(weights, "network"), dropped, doubled(state))


def _conversion(size: str, is_official: bool, weights: State, dropped: list[str], original: State) -> Conversion:
    network = {
        "name": "spectroformer",
        "size": size,
        "design": "official" if is_official else "reproduction",
        "residual": not is_official,
        **({"second_attention": "first"} if is_official else {}),
    }

    def compare(pipeline: Pipeline) -> list[Comparison]:
        image = stored_input(3)
        if is_official:
            expected = (spectroformer_official.forward(original, 2 * image - 1) + 1) / 2
        else:
            expected = spectroformer_reproduction.forward(original, image)
        with torch.no_grad():
            restored = pipeline.restore(as_batch(noisy=image, clean=image))["restored"]
        return [Comparison("restored image", restored, expected)]

    colour = ImageKind("uint8", 3)
    settings = [f"pipeline.network={kinds.inline(network)}"]
    if is_official:
        settings.append("pipeline.range=[0, 1]")
    return Conversion(
        f"Spectroformer, {AUTHORS if is_official else 'reproduction'}, {size}",
        "spectroformer_official" if is_official else "spectroformer",
        settings,
        weights,
        {"noisy": colour, "clean": colour},
        compare,
        dropped=dropped,
    )
