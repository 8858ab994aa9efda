"""Recorrupted-to-Recorrupted: the published DnCNN."""

import torch

from quell.configs.errors import CheckpointError
from quell.launch.data.fields import ImageKind
from quell.launch.importing import kinds
from quell.launch.importing.conversion import Comparison, Conversion, doubled, stored_input
from quell.launch.importing.kinds.tcfl import DNCNN, depth_of
from quell.launch.importing.old_files import OldFile
from quell.launch.importing.originals import stacks
from quell.launch.importing.renaming import rename, with_prefix
from quell.pipelines.base import Pipeline


def convert(files: list[OldFile], *, own_statistics: bool) -> Conversion:
    """Convert a network; it is evaluated with its running averages, so `own_statistics` is refused."""
    if len(files) != 1 or own_statistics:
        raise CheckpointError("R2R's weights are one file, and its networks are evaluated with their running averages")
    state = files[0].tensors
    if "dncnn.0.weight" not in state or "dncnn.0.bias" in state:
        raise CheckpointError(
            f"{files[0].path}: not a network of R2R (a tensor dncnn.0.weight and no dncnn.0.bias): choose the kind of "
            "weights that belongs to the file"
        )
    weights, dropped = rename(state, DNCNN, files[0].path)
    network = {"name": "dncnn", "depth": depth_of(state)}
    original_state = doubled(state)

    def compare(pipeline: Pipeline) -> list[Comparison]:
        image = stored_input()
        with torch.no_grad():
            ours = pipeline.get_submodule("network")(image)
        return [Comparison("one pass", ours, image - stacks.dncnn(original_state, image, slope=0.0))]

    settings = [f"pipeline.network={kinds.inline(network)}"]
    notes = ["images are restored as published, by the mean of 50 recorrupted passes (pipeline.passes)"]
    images = {"noisy": ImageKind("uint8", 1)}
    weights = with_prefix(weights, "network")
    return Conversion("R2R, DnCNN", "r2r", settings, weights, images, compare, dropped=dropped, notes=notes)
