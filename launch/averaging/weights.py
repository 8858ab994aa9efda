"""Which checkpoints are averaged, the mean of their weights, and the checkpoint that holds it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.configs.schema import RunConfig
from quell.launch.checkpoints import best, store
from quell.launch.checkpoints.files import explained
from quell.launch.checkpoints.layout import AVERAGE, complete, folder_name

_KEPT = ("epoch", "world", "precision", "draws", "commit", "samples", "data", "config", "images", "training_data")
"""What meta.json takes over from the newest of the averaged checkpoints."""


def choose(run: Path, config: RunConfig, *, best_count: int | None, last_count: int | None) -> list[Path]:
    """The checkpoints to average, oldest first.

    Args:
        run: A run folder.
        config: Its configuration.
        best_count: How many of the best; None is checkpoint.keep_best.
        last_count: How many of the latest instead.

    Raises:
        CheckpointError: There are fewer than asked for, or fewer than two.
    """
    folder = run / "checkpoints"
    if last_count is not None:
        found, wanted, kind = complete(folder)[-last_count:], last_count, "checkpoints; train with checkpoint.keep_last"
    else:
        wanted = best_count or config.checkpoint.keep_best
        ranked = best.ranking(folder, config.evaluation.metric)[:wanted]
        found = [folder / folder_name(entry["step"]) for entry in ranked]
        kind = f"checkpoints with a value of {config.evaluation.metric}; train with checkpoint.keep_best"
    if len(found) < max(wanted, 2):
        raise CheckpointError(f"{folder} has {len(found)} {kind}={max(wanted, 2)} to have {max(wanted, 2)} to average")
    return sorted(found)


def mean_weights(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights that evaluation uses (the moving averages, where they are kept), summed in float64.

    Whole numbers, such as counts of batches, are those of the last checkpoint.

    Raises:
        CheckpointError: A checkpoint is damaged, or has weights of another shape.
    """
    sums: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for checkpoint in checkpoints:
        weights = store.read_weights(checkpoint, averaged=True)
        if sums:
            store.check_fit(weights, sums, checkpoint)
        for name, value in weights.items():
            wide = value.to(torch.complex128 if value.is_complex() else torch.float64) if _is_averaged(value) else value
            sums[name] = sums[name] + wide if name in sums and _is_averaged(value) else wide
    return {
        name: (sums[name] / len(checkpoints)).to(value.dtype) if _is_averaged(value) else value
        for name, value in weights.items()
    }


def write(run: Path, checkpoints: Sequence[Path], weights: dict[str, Tensor], metrics: dict[str, float]) -> Path:
    """Write the checkpoint `average` of a run, in place of one that is there; its folder.

    Raises:
        MachineError: The disk does not take it.
    """
    newest = store.read_meta(checkpoints[-1])
    hidden = run / "checkpoints" / f".{AVERAGE}"
    with explained(hidden):
        if hidden.exists():
            shutil.rmtree(hidden)
        hidden.mkdir()
    store.write_weights(hidden, weights, None)
    kept = {name: newest[name] for name in _KEPT if name in newest}
    names = [checkpoint.name for checkpoint in checkpoints]
    return store.publish(hidden, {"step": newest["step"], **kept, "metrics": metrics, "average_of": names})


def _is_averaged(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()
