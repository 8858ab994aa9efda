"""Contrast2Contrast: the encoder and the two decoders of a `best.pt`."""

import re

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import kinds
from quell.launch.importing.conversion import Comparison, Conversion, doubled, stored_input
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.originals import contrast
from quell.launch.importing.renaming import Rule, rename, with_prefix
from quell.pipelines.base import Pipeline

PARTS = ("encoder", "decoder_a", "decoder_b")
_NORM = {"bn1": "norm1", "bn2": "norm2", "conv1": "conv1", "conv2": "conv2"}
_LAYER = r"(bn1|bn2|conv1|conv2)\.(weight|bias)"
ENCODER = [
    Rule(rf"inc\.{_LAYER}", lambda m: f"levels.0.{_NORM[m[1]]}.{m[2]}"),
    Rule(rf"downs\.(\d+)\.maxpool_conv\.0\.{_LAYER}", lambda m: f"levels.{int(m[1]) + 1}.{_NORM[m[2]]}.{m[3]}"),
    Rule(r"(bottleneck\.(?:weight|bias))", r"\1"),
]
DECODER = [
    Rule(rf"ups\.(\d+)\.conv\.{_LAYER}", lambda m: f"ups.{m[1]}.conv.{_NORM[m[2]]}.{m[3]}"),
    Rule(r"((?:expand|outc|ups\.\d+\.up)\.(?:weight|bias))", r"\1"),
]
RULES = {"encoder": ENCODER, "decoder_a": DECODER, "decoder_b": DECODER}


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert a `best.pt`; what is not in the file (skips, data) comes from the YAML or the user's JSON."""
    if len(files) != 1 or own_statistics:
        raise CheckpointError("Contrast2Contrast's weights are one best.pt, and its networks have no batch statistics")
    file = files[0]
    if not set(PARTS) <= file.parts.keys():
        raise CheckpointError(
            f"{file.path} holds {', '.join(name or 'a single network' for name in file.parts)}, but a best.pt of "
            f"Contrast2Contrast holds {', '.join(PARTS)}: choose the kind of weights that belongs to the file"
        )
    weights: State = {}
    for part in PARTS:
        renamed, _ = rename(file.parts[part], RULES[part], f"{file.path}, {part}")
        weights |= with_prefix(renamed, part)
    settings, images = _architecture(weights)
    originals = {part: doubled(file.parts[part]) for part in PARTS}

    def compare(pipeline: Pipeline) -> list[Comparison]:
        return _comparisons(pipeline, originals)

    notes = [
        "the file does not say which skips the run used: give its JSON with --config, or set "
        "pipeline.cross_domain_strategy and pipeline.same_domain_use_skip"
    ]
    return Conversion(
        "Contrast2Contrast", "pure_noise2noise", settings, weights, images, compare, tolerance=1e-9, notes=notes
    )


def _architecture(weights: State) -> tuple[list[str], dict[str, ImageKind]]:
    """The settings that the shapes of the tensors tell, and the kind of images the networks read."""
    first = weights["encoder.levels.0.conv1.weight"]
    levels = sorted({int(m[1]) for name in weights if (m := re.match(r"encoder\.levels\.(\d+)\.", name))})
    ups = sorted({int(m[1]) for name in weights if (m := re.match(r"decoder_a\.ups\.(\d+)\.", name))})
    encoder = [weights[f"encoder.levels.{level}.conv1.weight"].shape[0] for level in levels]
    decoder = [
        weights["decoder_a.expand.weight"].shape[0],
        *(weights[f"decoder_a.ups.{up}.conv.conv1.weight"].shape[0] for up in ups),
    ]
    representation = "complex" if first.is_complex() else {1: "auto", 2: "ri"}.get(first.shape[1])
    if representation is None:
        raise CheckpointError(f"the encoder reads {first.shape[1]} channels; images of one contrast have one or two")
    kind = ImageKind("float32" if representation == "auto" else "complex64", 1)
    settings = [
        f"pipeline.encoder_features={kinds.inline(encoder)}",
        f"pipeline.decoder_features={kinds.inline(decoder)}",
        f"pipeline.latent_channels={weights['encoder.bottleneck.weight'].shape[0]}",
        f"data.representation={representation}",
    ]
    return settings, {"pd": kind, "pdfs": kind}


def _comparisons(pipeline: Pipeline, originals: dict[str, State]) -> list[Comparison]:
    """Latents, and images decoded with and without skips, of two contrasts."""
    comparisons = []
    encoder = pipeline.get_submodule("encoder")
    for seed, decoder in enumerate(("decoder_a", "decoder_b")):
        image = _input(originals["encoder"]["inc.conv1.weight"], seed)
        latent, skips = contrast.encode(originals["encoder"], image)
        decode = pipeline.get_submodule(decoder)
        with torch.no_grad():
            own_latent, own_skips = encoder(image)
            comparisons.append(Comparison(f"latent {seed + 1}", own_latent, latent))
            expected = contrast.decode(originals[decoder], latent, None)
            comparisons.append(Comparison(f"{decoder} without skips", decode(own_latent, None), expected))
            if _fits(originals[decoder], skips):
                expected = contrast.decode(originals[decoder], latent, skips)
                comparisons.append(Comparison(f"{decoder} with skips", decode(own_latent, own_skips), expected))
    return comparisons


def _fits(decoder: State, skips: list[Tensor]) -> bool:
    """Whether a decoder's concatenations are exactly as wide as these skips and its own features."""
    return decoder["ups.0.up.weight"].shape[1] == skips[-1].shape[1]


def _input(first: Tensor, seed: int) -> Tensor:
    if first.is_complex():
        real, imaginary = stored_input(2, seed).chunk(2, 1)
        return torch.complex(real, imaginary)
    return stored_input(first.shape[1], seed)
