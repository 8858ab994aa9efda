"""Checkpoints on disk: complete, or not there at all; what is read is what was written, or it is refused.

`checkpoints/step-XXXXXXXX/` holds `weights.safetensors` (and `ema.safetensors`), `state.pt`, one `rank-R.pt` per rank,
and `meta.json`; launch/checkpoints/capture.py says what is in them. A checkpoint is written to a hidden folder, sealed
by `meta.json` with the checksums of all files, and renamed. Whatever is replaced or removed is renamed out of the way
first, so that a kill at any moment leaves a complete checkpoint, which the next start finds (`recover`).
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from quell.configs.errors import CheckpointError
from quell.configs.fields import DRAWS
from quell.configs.support.json_files import Record, read_json
from quell.configs.support.logs import get_logger
from quell.launch.checkpoints import integrity, lineage
from quell.launch.checkpoints.best import BEST_FILE, find_best, ranking, read_best
from quell.launch.checkpoints.files import REMOVED, explained, remove, sync, write_durably
from quell.launch.checkpoints.layout import (
    AVERAGE,
    META,
    MODEL,
    complete,
    folder_name,
    is_checkpoint,
    step_folders,
    step_of,
)
from quell.launch.options.checks import check_choice
from quell.launch.options.choices import WHICH

WEIGHTS, MOVING_AVERAGE = "weights.safetensors", "ema.safetensors"

log = get_logger(__name__)


def begin(folder: Path, step: int) -> Path:
    """Create the hidden folder that a checkpoint is written to; rank 0 does so before the others write."""
    hidden = folder / f".{folder_name(step)}"
    with explained(hidden):
        if hidden.exists():
            shutil.rmtree(hidden)
        hidden.mkdir(parents=True)
    return hidden


def write_weights(hidden: Path, weights: Mapping[str, Tensor], average: Mapping[str, Tensor] | None) -> None:
    """Write weights, and their moving average where one is kept, as safetensors."""
    for name, tensors in ((WEIGHTS, weights), (MOVING_AVERAGE, average)):
        if tensors is not None:
            on_cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            with explained(hidden / name):
                save_file(on_cpu, hidden / name)


def write_state(hidden: Path, name: str, state: Record) -> None:
    """Write one `.pt` file of plain values and tensors; a file that is visible under its name is complete."""
    with explained(hidden / name):
        with (hidden / f".{name}").open("wb") as file:  # through Python, whose errors say what went wrong
            torch.save(state, file)
        os.replace(hidden / f".{name}", hidden / name)


def publish(hidden: Path, meta: Record) -> Path:
    """Sync a written checkpoint, seal it with `meta.json`, and give it its final name; the final path.

    A checkpoint of the same step makes room only once this one is complete.
    """
    with explained(hidden):
        for file in sorted(hidden.iterdir()):
            sync(file)
        write_durably(hidden / META, integrity.to_json({**meta, "files": integrity.describe(hidden)}))
        sync(hidden)
        return _install(hidden)


def abandon(hidden: Path) -> None:
    """Remove what a failed save has written, as far as the disk allows; a sealed checkpoint stays, for `recover`."""
    if (hidden / META).exists():
        return
    shutil.rmtree(hidden, ignore_errors=True)
    if hidden.exists():
        log.warning("cannot remove the incomplete checkpoint %s; the next start does", hidden)


def recover(folder: Path) -> list[str]:
    """Finish or undo what a killed process left in a run's `checkpoints/`; what was done, in sentences.

    A hidden checkpoint that was sealed and is intact gets its name; what was being written or removed is deleted.
    """
    done = []
    with explained(folder, "tidy up"):
        for hidden in [*sorted(folder.glob(".step-*")), *folder.glob(f".{AVERAGE}")]:
            if (hidden / META).exists() and not integrity.problems(hidden):
                done.append(f"completed the save of {_install(hidden).name}, which a kill had interrupted")
            else:
                shutil.rmtree(hidden) if hidden.is_dir() else hidden.unlink()
        for path in [*folder.glob(f"{REMOVED}*"), *folder.glob(f".{BEST_FILE}*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return done


def retain(newest: Path, keep_last: int, metric: str, *, keep_best: int = 1) -> None:
    """Remove the checkpoints that `newest` descends from, but not the latest of the line and the best.

    Args:
        newest: The checkpoint that was saved last.
        keep_last: How many of its line to keep, itself included.
        metric: What the best are chosen by.
        keep_best: How many of the best to keep.
    """
    best = {entry["step"] for entry in ranking(newest.parent, metric)[:keep_best]}
    ancestry = lineage.Ancestry(newest)
    line = [path for path in complete(newest.parent) if ancestry.includes(path)]
    with explained(newest.parent, "remove an old checkpoint in"):
        for path in line[:-keep_last]:
            if step_of(path) not in best:
                remove(path)


def choose(run: Path, which: str = "last") -> Path:
    """The checkpoint folder that a path means; whether it is intact is found out when it is read.

    Args:
        run: A run folder, or a checkpoint folder, which means itself.
        which: `best` or `last` of the run; where no best one is known, the last. Or its `average`.

    Raises:
        CheckpointError: The run has no checkpoint, or no average.
        ConfigError: `which` is none of these words.
    """
    check_choice("which", which, WHICH)
    if is_checkpoint(run):
        return run
    folder = run / "checkpoints"
    checkpoints = step_folders(folder)
    if not checkpoints:
        raise CheckpointError(f"no checkpoint in {folder}: train the run first, or give another folder")
    if which == AVERAGE:
        if not (folder / AVERAGE).is_dir():
            raise CheckpointError(f"no average in {folder}: write it with quell average {run}")
        return folder / AVERAGE
    return (_best(folder) if which == "best" else None) or checkpoints[-1]


def intact(folder: Path, *, but: Path | None = None) -> Path | None:
    """The newest intact checkpoint in a run's `checkpoints/`, other than `but`; None where there is none."""
    others = (path for path in reversed(step_folders(folder)) if path != but)
    return next((path for path in others if not integrity.problems(path)), None)


def damage(checkpoint: Path, found: list[str]) -> CheckpointError:
    """The error for a damaged checkpoint: what is wrong with it, and which one to use instead."""
    other = intact(checkpoint.parent, but=checkpoint)
    advice = f"use another checkpoint of the run, such as {other}" if other else "restore it from a copy"
    return CheckpointError(f"{checkpoint} is damaged: {'; '.join(found)}; {advice}")


def read_meta(checkpoint: Path) -> Record:
    """A checkpoint's meta.json: step, epoch, world size, commit, samples, configuration, metrics, images, files.

    Raises:
        CheckpointError: The file is damaged, or of a format that this version does not read.
    """
    meta = read_json(checkpoint / META)
    if meta and meta.get("format") not in integrity.READABLE:
        raise CheckpointError(
            f"{checkpoint} has format {meta.get('format')}, expected one of {integrity.READABLE}: use the code of "
            f"commit {meta.get('commit', '?')}"
        )
    if problem := integrity.meta_problem(checkpoint, meta):
        raise damage(checkpoint, [problem])
    return meta


def read_draws(checkpoint: Path) -> int:
    """The version of the random draws of the run that wrote a checkpoint; up to version 0.3 none is recorded.

    Raises:
        CheckpointError: This version cannot draw them.
    """
    meta = read_meta(checkpoint)
    draws = meta.get("draws", 1)
    if draws not in range(1, DRAWS + 1):
        raise CheckpointError(
            f"{checkpoint} has random draws of version {draws}, expected 1 to {DRAWS}: use the code of commit "
            f"{meta.get('commit', '?')}"
        )
    return int(draws)


def read_weights(checkpoint: Path, *, averaged: bool = False) -> dict[str, Tensor]:
    """The weights in a checkpoint, on the CPU.

    Args:
        checkpoint: A checkpoint folder.
        averaged: Prefer the moving average, where one was kept.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    meta = read_meta(checkpoint)
    name = MOVING_AVERAGE if averaged and integrity.has_average(checkpoint, meta) else WEIGHTS
    name = MODEL if MODEL in meta.get("files", {}) else name
    if problem := integrity.file_problem(checkpoint, name, meta):
        raise damage(checkpoint, [problem])
    try:
        return load_file(checkpoint / name)
    except FileNotFoundError as error:
        raise damage(checkpoint, [f"{name} is missing"]) from error
    except (OSError, SafetensorError) as error:
        raise damage(checkpoint, [f"{name} cannot be read ({error})"]) from error


def read_state(checkpoint: Path, name: str) -> Record:
    """One `.pt` file of a checkpoint; no code in it is executed.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    if problem := integrity.file_problem(checkpoint, name, read_meta(checkpoint)):
        raise damage(checkpoint, [problem])
    try:
        state: Record = torch.load(checkpoint / name, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise damage(checkpoint, [f"{name} is missing"]) from error
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise damage(checkpoint, [f"{name} cannot be read ({type(error).__name__})"]) from error
    return state


def warn_of_damage(checkpoint: Path) -> None:
    """Warn, by name, of damage that does not affect a reader of `read_weights(averaged=True)`.

    The raw weights beside an average are compared with their checksum; of the state for resuming only the size is.
    """
    hashed = (WEIGHTS,) if integrity.has_average(checkpoint, read_meta(checkpoint)) else ()
    for problem in integrity.problems(checkpoint, hashed=hashed):
        log.warning("%s: %s; it is not used here, but the run cannot be resumed from it", checkpoint, problem)
    for name in integrity.unknown_files(checkpoint):
        log.warning("%s: %s was not written with this checkpoint and is ignored", checkpoint, name)


def check_shared(folder: Path) -> None:
    """CheckpointError unless every file of a shared model that is read is what was written."""
    if problems := integrity.problems(folder):
        raise CheckpointError(
            f"{folder} is damaged: {'; '.join(problems)}; get this model again from where it came from"
        )


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


def _install(hidden: Path) -> Path:
    """Give a sealed checkpoint its final name, in place of one that has it already; its final path."""
    final = hidden.with_name(hidden.name[1:])
    replaced = hidden.with_name(f"{REMOVED}replaced-{final.name}")
    if final.exists():
        if replaced.exists():
            remove(replaced)
        os.rename(final, replaced)  # a kill before the next rename leaves the sealed folder, which `recover` installs
    try:
        os.rename(hidden, final)
    except OSError:
        if replaced.exists():
            os.rename(replaced, final)
        raise
    sync(final.parent)
    if replaced.exists():
        remove(replaced)
    return final


def _best(folder: Path) -> Path | None:
    """The best checkpoint of a run by the metrics on disk, or the one in best.json that is there but damaged."""
    noted = read_best(folder)
    named = folder / folder_name(noted["step"]) if noted is not None else None
    if named is not None and not named.is_dir():
        log.warning("%s names %s as the best checkpoint, but it is not there", folder / BEST_FILE, named.name)
    for checkpoint in step_folders(folder):
        if problem := integrity.meta_problem(checkpoint, read_json(checkpoint / META)):
            if checkpoint == named:
                return checkpoint  # which is then refused by name, rather than replaced by the second best
            log.warning("%s: %s; it is left out of the choice of the best checkpoint", checkpoint, problem)
    newest = complete(folder)[-1:]
    config = read_json(newest[0] / META).get("config", {}) if newest else {}
    metric = config.get("evaluation", {}).get("metric") or (noted["metric"] if noted else "psnr")
    best = find_best(folder, metric)
    if best is None:
        return named if named is not None and named.is_dir() else None
    return folder / folder_name(best["step"])


def _listed(word: str, names: list[str]) -> list[str]:
    """`missing 'a' and 2 more`, or nothing."""
    if not names:
        return []
    return [f"{word} '{names[0]}'" + (f" and {len(names) - 1} more" if len(names) > 1 else "")]
