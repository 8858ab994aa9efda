"""Checkpoints on disk: complete, or not there at all.

`checkpoints/step-XXXXXXXX/` holds `weights.safetensors` (and `ema.safetensors`), `state.pt`, one `rank-R.pt` per rank,
and `meta.json`; launch/checkpoints/capture.py says what is in them. A checkpoint is written to a hidden folder, synced,
and renamed: a folder with its final name is complete. `checkpoints/best.json` names the best one.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.errors import CheckpointError, MachineError
from configs.support.atomic_files import write_atomically
from configs.support.json_files import Record, read_json

FORMAT = 1
"""Incremented whenever the content of a checkpoint changes its meaning."""


class Best(TypedDict):
    """Content of best.json."""

    step: int
    metric: str
    value: float


def folder_name(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints in a run's `checkpoints/`, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "meta.json").is_file())


def clean_up(folder: Path) -> None:
    """Remove what interrupted saves left behind."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def begin(folder: Path, step: int) -> Path:
    """Create the hidden folder that a checkpoint is written to; rank 0 does so before the others write."""
    hidden = folder / f".{folder_name(step)}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    return hidden


def write_weights(hidden: Path, weights: Mapping[str, Tensor], average: Mapping[str, Tensor] | None) -> None:
    """Write weights, and their moving average where one is kept, as safetensors."""
    for name, tensors in (("weights", weights), ("ema", average)):
        if tensors is not None:
            on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            _guarded(partial(save_file, on_cpu, hidden / f"{name}.safetensors"))


def write_state(hidden: Path, name: str, state: Record) -> None:
    """Write one `.pt` file of plain values and tensors; a file that is visible under its name is complete."""
    _guarded(lambda: torch.save(state, hidden / f".{name}"))
    os.replace(hidden / f".{name}", hidden / name)


def publish(hidden: Path, meta: Record) -> Path:
    """Add `meta.json` to a written checkpoint, sync every file, and rename the folder; its final path."""
    (hidden / "meta.json").write_text(json.dumps({"format": FORMAT, **meta}, indent=1))
    for file in hidden.iterdir():
        _sync(file)
    _sync(hidden)
    final = hidden.with_name(hidden.name[1:])
    if final.exists():  # the same step saved again, e.g. by a signal right after a periodic save: equal content
        shutil.rmtree(final)
    os.rename(hidden, final)
    _sync(final.parent)
    return final


def retain(folder: Path, keep_last: int) -> None:
    """Delete all but the latest `keep_last` checkpoints and the best one."""
    best = read_best(folder)
    for path in complete(folder)[:-keep_last]:
        if best is None or path.name != folder_name(best["step"]):
            shutil.rmtree(path)


def note_best(folder: Path, step: int, metric: str, value: float, *, higher_is_better: bool) -> bool:
    """Point `best.json` at this step if its metric is better than the best so far; whether it is."""
    best = read_best(folder)
    if best is not None and best["metric"] == metric:
        is_better = value > best["value"] if higher_is_better else value < best["value"]
        if not is_better:
            return False
    write_atomically(folder / "best.json", json.dumps({"step": step, "metric": metric, "value": value}))
    return True


def read_best(folder: Path) -> Best | None:
    """Step, metric and value of the best checkpoint; None before there is one."""
    best = read_json(folder / "best.json")
    return Best(step=best["step"], metric=best["metric"], value=best["value"]) if best else None


def choose(run: Path, which: str = "last") -> Path:
    """The checkpoint folder that a path means.

    Args:
        run: A run folder, or a checkpoint folder, which means itself.
        which: `best` or `last` of the run; where no best one is known, the last.

    Raises:
        CheckpointError: The run has no checkpoint.
    """
    if (run / "meta.json").is_file():
        return run
    folder = run / "checkpoints"
    checkpoints = complete(folder)
    if not checkpoints:
        raise CheckpointError(f"no checkpoint in {folder}: train the run first, or give another folder")
    best = read_best(folder)
    if which == "best" and best is not None and (folder / folder_name(best["step"])).is_dir():
        return folder / folder_name(best["step"])
    return checkpoints[-1]


def read_meta(checkpoint: Path) -> Record:
    """A checkpoint's meta.json: step, epoch, world size, commit, samples, configuration, metrics, images.

    Raises:
        CheckpointError: The file is not readable, or of a format that this version does not read.
    """
    meta = read_json(checkpoint / "meta.json")
    if not meta:
        raise CheckpointError(f"{checkpoint} is not a complete checkpoint: its meta.json is not readable")
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{checkpoint} has format {meta.get('format')}, expected {FORMAT}: use the code of commit "
            f"{meta.get('commit', '?')}"
        )
    return meta


def read_weights(checkpoint: Path, *, averaged: bool = False) -> dict[str, Tensor]:
    """The weights in a checkpoint, on the CPU.

    Args:
        checkpoint: A checkpoint folder.
        averaged: Prefer the moving average, where one was kept.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    name = "ema" if averaged and (checkpoint / "ema.safetensors").is_file() else "weights"
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read {checkpoint / name}.safetensors ({error}): resume from another checkpoint with --resume PATH"
        ) from error


def read_state(checkpoint: Path, name: str) -> Record:
    """One `.pt` file of a checkpoint; no code in it is executed.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    try:
        state: Record = torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise CheckpointError(
            f"cannot read {checkpoint / name} ({type(error).__name__}): resume from another checkpoint with "
            "--resume PATH"
        ) from error
    return state


def check_fit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], checkpoint: Path) -> None:
    """CheckpointError naming the first differences unless names and shapes are equal.

    Args:
        weights: The checkpoint's tensors.
        expected: The model's own tensors.
        checkpoint: Named in the error.
    """
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    reshaped = sorted(k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape)
    problems = [*_listed("missing", missing), *_listed("unexpected", unexpected)]
    problems += [
        f"'{name}' has shape {tuple(weights[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in reshaped[:1]
    ]
    if problems:
        raise CheckpointError(
            f"{checkpoint} holds another model's weights: {'; '.join(problems)}; use the configuration it was trained "
            "with"
        )


def _listed(word: str, names: list[str]) -> list[str]:
    """`missing 'a' and 2 more`, or nothing."""
    if not names:
        return []
    return [f"{word} '{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _guarded(write: Callable[[], object]) -> None:
    try:
        write()
    except (OSError, RuntimeError, SafetensorError) as error:
        raise MachineError(
            f"cannot write the checkpoint ({error}): free space and start the same command again; the last complete "
            "checkpoint is untouched"
        ) from error
