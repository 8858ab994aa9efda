"""Checkpoints: everything training depends on, written whole or not at all.

`checkpoints/step-XXXXXXXX/` holds `weights.safetensors` (and `ema.safetensors`), `state.pt` (optimizers, scaler,
schedule, counters), `rank-R.pt` (random states and image pools of one rank) and `meta.json`. A checkpoint is written to
a hidden folder, synced, and renamed: a folder with its final name is complete. `checkpoints/best.json` names the best.
"""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.errors import CheckpointError, MachineError
from configs.support.atomic_files import write_atomically

FORMAT = 1
"""Raised when the content of a checkpoint changes its meaning."""


def name_of(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"step-{step:08d}"


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "meta.json").is_file())


def clean_up(folder: Path) -> None:
    """Remove what a killed save left behind."""
    for path in folder.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def begin(folder: Path, step: int) -> Path:
    """The hidden folder a checkpoint is written to; rank 0 makes it before the others write."""
    hidden = folder / f".{name_of(step)}"
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    return hidden


def write_weights(hidden: Path, weights: dict[str, Tensor], averaged: dict[str, Tensor] | None) -> None:
    """Weights, and their moving average where one is kept, as safetensors."""
    for name, tensors in (("weights", weights), ("ema", averaged)):
        if tensors is not None:
            on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            _guarded(partial(save_file, on_cpu, hidden / f"{name}.safetensors"))


def write_state(hidden: Path, name: str, state: dict[str, Any]) -> None:
    """One `.pt` file of plain values and tensors; where it is seen under its name it is whole."""
    _guarded(lambda: torch.save(state, hidden / f".{name}"))
    os.replace(hidden / f".{name}", hidden / name)


def publish(hidden: Path, meta: dict[str, Any]) -> Path:
    """Seal a written checkpoint: sync every file, add `meta.json`, rename. Returns its final folder."""
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
    """Delete all but the last `keep_last` checkpoints and the best one."""
    best = read_best(folder)
    for path in complete(folder)[:-keep_last]:
        if best is None or path.name != name_of(best["step"]):
            shutil.rmtree(path)


def note_best(folder: Path, step: int, metric: str, value: float, *, higher_is_better: bool) -> bool:
    """Point `best.json` at this step if its metric is better than the best so far."""
    best = read_best(folder)
    if best is not None and best["metric"] == metric:
        better = value > best["value"] if higher_is_better else value < best["value"]
        if not better:
            return False
    write_atomically(folder / "best.json", json.dumps({"step": step, "metric": metric, "value": value}))
    return True


def read_best(folder: Path) -> dict[str, Any] | None:
    """Step, metric and value of the best checkpoint, or None."""
    try:
        return json.loads((folder / "best.json").read_text())
    except (OSError, json.JSONDecodeError):
        return None


def choose(run: Path, which: str = "last") -> Path:
    """The checkpoint folder meant by a run folder (its last or best one) or by a checkpoint folder itself."""
    if (run / "meta.json").is_file():
        return run
    folder = run / "checkpoints"
    found = complete(folder)
    if not found:
        raise CheckpointError(f"no checkpoint in {folder}: train the run first, or give another folder")
    best = read_best(folder)
    if which == "best" and best is not None and (folder / name_of(best["step"])).is_dir():
        return folder / name_of(best["step"])
    return found[-1]


def read_meta(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    try:
        meta = json.loads((checkpoint / "meta.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{checkpoint} is not a complete checkpoint: its meta.json is not readable") from error
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"{checkpoint} has format {meta.get('format')}, this program reads {FORMAT}: use the "
            f"code of commit {meta.get('commit', '?')}"
        )
    return meta


def read_weights(checkpoint: Path, *, averaged: bool = False) -> dict[str, Tensor]:
    """The weights of a checkpoint, or their moving average where one was kept."""
    name = "ema" if averaged and (checkpoint / "ema.safetensors").is_file() else "weights"
    try:
        return load_file(checkpoint / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot read {checkpoint / name}.safetensors ({error}): resume from another checkpoint with --resume PATH"
        ) from error


def read_state(checkpoint: Path, name: str) -> dict[str, Any]:
    """One `.pt` file of a checkpoint; no code in it is run."""
    try:
        return torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise CheckpointError(
            f"cannot read {checkpoint / name} ({type(error).__name__}): resume from another "
            "checkpoint with --resume PATH"
        ) from error


def fit(weights: dict[str, Tensor], own: dict[str, Tensor], source: Path) -> None:
    """CheckpointError naming the first differences unless names and shapes are equal."""
    missing, extra = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [k for k in own.keys() & weights.keys() if own[k].shape != weights[k].shape]
    if not (missing or extra or shapes):
        return
    said = [f"lacks {missing[0]} and {len(missing) - 1} more"] if missing else []
    said += [f"has {extra[0]} and {len(extra) - 1} more that this model has not"] if extra else []
    said += [
        f"has {name} of shape {tuple(weights[name].shape)} where this model has {tuple(own[name].shape)}"
        for name in shapes[:1]
    ]
    raise CheckpointError(f"{source} is of another model: it {'; it '.join(said)}; use the config it was made with")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _guarded(write: Callable[[], Any]) -> None:
    try:
        write()
    except (OSError, RuntimeError, SafetensorError) as error:
        raise MachineError(
            f"cannot write the checkpoint ({error}): free space and start the same command again; "
            "the last complete checkpoint is untouched"
        ) from error
