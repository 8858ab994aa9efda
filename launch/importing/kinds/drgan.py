"""DRGAN: seven networks in seven files, of which restoring needs two."""

import re

import torch

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import critics
from quell.launch.importing.conversion import Comparison, Conversion, as_batch, doubled, stored_input
from quell.launch.importing.old_files import OldFile, State
from quell.launch.importing.originals import drgan
from quell.launch.importing.renaming import Rule, rename, with_prefix
from quell.pipelines.base import Pipeline

_BLOCK = r"model\.(\d+)\.model\.([01])\.conv\.(.*)"


def _block(prefix: str) -> Rule:
    names = {"0": "first", "1": "second"}
    return Rule(prefix + _BLOCK, lambda m: f"blocks.{m[1]}.{names[m[2]]}.{m[3]}")


def _decoder(prefix: str) -> list[Rule]:
    """The rules of a decoder, whose names begin with a prefix."""
    up, affine = {"2": 0, "4": 1}, {"gamma": "weight", "beta": "bias"}
    return [
        Rule(rf"{prefix}concat_convs\.(.*)", r"up_path.fuse.\1"),
        Rule(rf"{prefix}.*\.norm\.running_(mean|var)", None),
        _block(rf"{prefix}model\.0\."),
        Rule(rf"{prefix}model\.([24])\.conv\.(.*)", lambda m: f"up_path.up.{up[m[1]]}.1.{m[2]}"),
        Rule(rf"{prefix}model\.([24])\.norm\.(gamma|beta)", lambda m: f"up_path.up.{up[m[1]]}.2.{affine[m[2]]}"),
        Rule(rf"{prefix}model\.5\.conv\.(.*)", r"up_path.image.\1"),
    ]


RULES = {
    "content_encoder": [
        Rule(r"model\.0\.conv\.(.*)", r"to_full.0.\1"),
        Rule(r"model\.1\.conv\.(.*)", r"to_half.0.\1"),
        Rule(r"model\.2\.conv\.(.*)", r"to_quarter.0.\1"),
        _block(r"model\.3\."),
    ],
    "noise_encoder": [Rule(r"model\.([0-2])\.conv\.(.*)", r"features.\1.0.\2"), Rule(r"model\.4\.(.*)", r"code.\1")],
    "clean_decoder": _decoder(""),
    "noisy_decoder": [
        *_decoder(r"dec\."),
        Rule(r"mlp\.model\.([0-2])\.fc\.(.*)", lambda m: f"styles.{2 * int(m[1])}.{m[2]}"),
    ],
    **dict.fromkeys(("critic_clean", "critic_noisy", "critic_noise"), critics.RULES),
}
CRITICS = {"netD_C": "critic_clean", "netD_N": "critic_noisy", "netD_PN": "critic_noise"}


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert the networks of one epoch; the content encoder and the clean decoder are needed, the others optional."""
    if own_statistics:
        raise CheckpointError("DRGAN normalises every image by its own statistics anyway: leave out the option")
    by_part: dict[str, OldFile] = {}
    for file in files:
        part = part_of(file)
        if part in by_part:
            raise CheckpointError(
                f"{by_part[part].path} and {file.path} are both a {part}: give the files of one epoch"
            )
        by_part[part] = file
    missing = [part for part in ("content_encoder", "clean_decoder") if part not in by_part]
    if missing:
        raise CheckpointError(
            "restoring needs the content encoder (netE_C) and the clean decoder (netG_C); missing: "
            f"{', '.join(missing)}"
        )
    weights: State = {}
    dropped: list[str] = []
    for part, file in by_part.items():
        renamed, unused = rename(file.tensors, RULES[part], file.path)
        weights |= with_prefix(renamed, part)
        dropped += unused
    encoder, decoder = (doubled(by_part[part].tensors) for part in ("content_encoder", "clean_decoder"))

    def compare(pipeline: Pipeline) -> list[Comparison]:
        image = stored_input()
        original = (drgan.restored(encoder, decoder, 2 * image - 1) + 1) / 2
        with torch.no_grad():
            restored = pipeline.restore(as_batch(noisy=image))["restored"]
        return [Comparison("restored image", restored, original)]

    grey = ImageKind("uint8", 1)
    return Conversion(
        "DRGAN",
        "drgan",
        [],
        weights,
        {"noisy": grey, "unpaired_clean": grey},
        compare,
        tolerance=1e-4,
        dropped=dropped,
        notes=["the layer norms of the decoders divide by sqrt(variance + epsilon) here, by std + epsilon there"],
    )


def part_of(file: OldFile) -> str:
    """Which of the seven networks a file holds; critics have equal shapes and are told apart by the file's name."""
    state = file.tensors
    if critics.is_critic(state):
        name = re.search(r"netD_(C|PN|N)(?![A-Za-z])", file.path.name)
        if name is None:
            raise CheckpointError(
                f"{file.path} is a critic, but its name does not say which: call it netD_C, netD_N or netD_PN, or "
                "leave it out"
            )
        return CRITICS[name[0]]
    for mark, part in (
        ("dec.model.5.conv.weight", "noisy_decoder"),
        ("concat_convs.0.weight", "clean_decoder"),
        ("model.3.model.0.model.0.conv.weight", "content_encoder"),
        ("model.4.weight", "noise_encoder"),
    ):
        if mark in state:
            return part
    raise CheckpointError(f"{file.path}: none of DRGAN's networks: choose the kind of weights that belongs to the file")
