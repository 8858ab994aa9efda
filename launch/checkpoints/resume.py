"""Which checkpoint a run continues from, whether it may, and warm starts from another run."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from quell.configs import loader
from quell.configs.errors import CheckpointError, ConfigError, QuellError
from quell.configs.schema import InitConfig
from quell.configs.support.event_log import read_log
from quell.configs.support.json_files import Record
from quell.configs.support.mappings import flatten
from quell.configs.support.paths import resolve
from quell.launch.checkpoints import integrity, lineage, store
from quell.launch.checkpoints.capture import TrainingState
from quell.launch.checkpoints.layout import step_folders
from quell.launch.checkpoints.lineage import Line
from quell.pipelines.base import Pipeline, State
from quell.shards.format.fingerprint import same_content
from quell.shards.reading.split import Split

RESUME_MODES = ("auto", "never")

RESUME_MUTABLE_KEYS = (
    "name",
    "tracking",
    "profile",
    "checkpoint",
    "evaluation",
    "init_from",
    "loop.epochs",
    "loop.max_steps",
    "loop.patience",
    "loop.min_delta",
    "loop.threads",
    "loop.accumulate",
    "loop.channels_last",
    "loop.compile",
    "loop.max_skips",
    "data.prefetch",
    "data.threads",
    "data.verify",
    "data.eval_batch_size",
    "data.root",
    "data.cache",
    "data.val_split",
    "data.test_split",
)
"""Keys (with everything below them) in which a resumed run may differ; all others decide what is learned."""


@dataclass(frozen=True)
class Resumption:
    """What a run continues from."""

    checkpoint: Path | None
    """None for a fresh start."""
    line: Line
    """Branches that lead to what the run saves from now on."""
    notes: tuple[str, ...] = ()
    """What was repaired, and what the user asked for and did not get literally, in sentences."""
    warnings: tuple[str, ...] = ()
    """Damage that was found, in sentences."""


def find_checkpoint(run_dir: Path, resume: str) -> Resumption:
    """What `--resume` means, after what a killed process left is tidied up. For the process that holds the lock.

    Args:
        run_dir: The run folder.
        resume: `auto` (the run's newest intact checkpoint, if it has any), `never`, or the path of a run or checkpoint
            folder. Where the run has already returned to that checkpoint, and saved since, it continues from there.

    Raises:
        CheckpointError: `never` on a folder that has checkpoints, so that no run is overwritten; a path without one; or
            nothing but damaged ones.
    """
    folder = run_dir / "checkpoints"
    notes = tuple(store.recover(folder))
    if resume == "never":
        if step_folders(folder):
            raise CheckpointError(
                f"{run_dir} already has checkpoints, but --resume is 'never': choose another --run-dir, or continue "
                "the run with --resume auto"
            )
        return Resumption(None, lineage.fresh(), notes)
    path = resolve(resume) if resume not in RESUME_MODES else run_dir
    if path.resolve() != run_dir.resolve():
        return _returned(folder, path, notes)
    checkpoint, warnings = newest_intact(folder)
    line = lineage.line_of(checkpoint) if checkpoint else lineage.fresh()
    return Resumption(checkpoint, line, notes, tuple(warnings))


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest intact checkpoint in a run's `checkpoints/`, and warnings that name newer ones that are damaged.

    Raises:
        CheckpointError: All that are there are damaged.
    """
    damaged: list[str] = []
    for checkpoint in reversed(step_folders(folder)):
        found = integrity.problems(checkpoint)
        if not found:
            if damaged:
                return checkpoint, [f"{'; '.join(damaged)}: continuing from {checkpoint.name}, the newest intact one"]
            return checkpoint, []
        damaged.append(f"{checkpoint} is damaged ({'; '.join(found)})")
    if damaged:
        raise CheckpointError(
            f"no checkpoint in {folder} is intact: {'; '.join(damaged)}; restore one from a copy, or start a new run "
            "with another --run-dir"
        )
    return None, []


def _returned(folder: Path, path: Path, notes: tuple[str, ...]) -> Resumption:
    """The resumption from a checkpoint that the user named, or from what was saved since they first did."""
    path = path.resolve()
    warnings: list[str] = []
    start, refusal = None, None
    try:
        start = _named(path, warnings)
    except CheckpointError as error:  # it may have been removed since, by the retention of the run that returned to it
        refusal = error
    later = [other for other in reversed(step_folders(folder)) if lineage.came_from(other, start, path)]
    for checkpoint in later:
        if found := integrity.problems(checkpoint):
            warnings.append(f"{checkpoint} is damaged ({'; '.join(found)})")
            continue
        notes += (
            f"this run has returned to {path} before: continuing from {checkpoint.name}, which it saved since (to "
            f"return once more, move {', '.join(sorted(other.name for other in later))} away)",
        )
        return Resumption(checkpoint, lineage.line_of(checkpoint), notes, tuple(warnings))
    if start is None:
        raise refusal or CheckpointError(f"no checkpoint in {path}: train the run first, or give another folder")
    line = lineage.branched(start, int(store.read_meta(start)["step"]), path)
    return Resumption(start, line, notes, tuple(warnings))


def _named(path: Path, warnings: list[str]) -> Path | None:
    """The intact checkpoint that a path names: itself, or the newest of the run; `warnings` receives what it skips."""
    if (path / "checkpoints").is_dir():
        start, damaged = newest_intact(path / "checkpoints")
        warnings += damaged
        return start
    if not path.is_dir():
        raise CheckpointError(f"no checkpoint at {path}: give the folder of a run, or of one of its checkpoints")
    start = store.choose(path)
    if found := integrity.problems(start):
        raise store.damage(start, found)
    return start


def refuse_imported(meta: Record, checkpoint: Path) -> None:
    """CheckpointError for weights without an optimizer to continue with: of another program, or an average."""
    if "average_of" in meta:
        raise CheckpointError(
            f"{checkpoint} is an average of checkpoints, which no optimizer belongs to: start a new run from it, with "
            f"another --run-dir, init_from.run={checkpoint.parent.parent} and init_from.which=average"
        )
    if "imported" in meta:
        raise CheckpointError(
            f"{checkpoint} holds weights imported from another program, and no run that could be continued: start a "
            f"new one from them, with another --run-dir and init_from.run={checkpoint.parent.parent}"
        )


def precision_of(checkpoint: Path) -> str | None:
    """The precision that a checkpoint was trained in: no, bf16 or fp16; None where nothing says what `auto` was.

    Up to version 0.3 only the log of the run records that.
    """
    meta = store.read_meta(checkpoint)
    asked = meta["config"].get("loop", {}).get("precision") or "no"
    if "precision" in meta or asked != "auto":
        return str(meta.get("precision", asked))
    events = read_log(checkpoint.parent.parent / "metrics.jsonl").events
    return next((str(event["precision"]) for event in events if event.get("precision") in ("no", "bf16", "fp16")), None)


def refuse_other_config(
    saved: Mapping[str, object], current: Mapping[str, object], checkpoint: Path, *, precision: str | None = None
) -> None:
    """CheckpointError naming the settings that differ and would change what is learned.

    Args:
        saved: The configuration in the checkpoint's meta.json, perhaps of an older version.
        current: The complete configuration of this run.
        checkpoint: Named in the error.
        precision: What the checkpoint was trained in. `loop.precision` may be that, or auto, which continues with it.
    """
    try:  # a setting that is younger than the checkpoint had its default
        complete: Mapping[str, object] = loader.structure(dict(saved)).model_dump(mode="json")
    except ConfigError:  # a setting that no longer exists is a difference
        complete = saved
    new, old = flatten(current), flatten(complete)
    if new.get("loop.precision") in ("auto", precision):
        old["loop.precision"] = new["loop.precision"]
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and not _is_mutable(key)]
    if changed:
        shown = ", ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed[:3])
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise CheckpointError(
            f"{checkpoint} was written with another configuration: {shown}{more}; restore these settings, or start "
            "a new run with another --run-dir"
        )


def refuse_other_data(meta: Record, size: int, shards: Split, checkpoint: Path, *, allowed: bool) -> str | None:
    """CheckpointError where the training split is not the one that the checkpoint was trained on.

    Args:
        meta: The checkpoint's meta.json; those up to version 0.2 record only the number of samples.
        size: Samples that are trained on now.
        shards: The training split, wherever it is.
        checkpoint: Named in the error.
        allowed: Accept other samples of the same number (checkpoint.allow_other_data).

    Returns:
        A sentence that says which difference was accepted; None where there is none.
    """
    saved, current = meta["samples"], size
    if saved != current:
        raise CheckpointError(
            f"{checkpoint} was trained on {saved} samples, but {shards.path} now has {current}, and the order of the "
            "samples depends on their number: restore the data, or start a new run with another --run-dir"
        )
    if same_content(meta.get("data"), shards.fingerprint):
        return None
    difference = (
        f"the shards in {shards.path} are not those that {checkpoint} was trained on (names, sizes or checksums differ)"
    )
    if not allowed:
        raise CheckpointError(
            f"{difference}: restore the data, start a new run with another --run-dir, or accept the change with "
            "checkpoint.allow_other_data=true"
        )
    return difference


def warm_start(state: TrainingState, init: InitConfig) -> str:
    """Copy networks from another run's checkpoint (`init_from`), before the first step; a sentence that says so.

    Buffers that a pipeline measured on its own data are not copied unless `init_from.parts` names them.

    Raises:
        CheckpointError: No checkpoint there, no such network, or weights of another shape.
    """
    checkpoint = checkpoint_to_start_from(init)
    weights = store.read_weights(checkpoint, averaged=True)
    store.warn_of_damage(checkpoint)
    with state.gathered_parameters(write=True):
        own = state.pipeline.checkpoint_state()
        parts, chosen = fitting_weights(state.pipeline, own, weights, init, checkpoint)
        state.pipeline.load_checkpoint_state({**own, **chosen})
        if state.average is not None:
            state.average.state = {name: value.clone() for name, value in state.pipeline.checkpoint_state().items()}
    return f"starting from {', '.join(parts)} of {checkpoint}"


def checkpoint_to_start_from(init: InitConfig) -> Path:
    """The checkpoint that `init_from` means; CheckpointError where there is none."""
    try:
        return store.choose(resolve(init.run), init.which)
    except CheckpointError as error:
        others = runs_named(Path(init.run).name, resolve(init.run).parent)
        known = ", ".join(f"init_from.run={run}" for run in others)
        advice = f"; a run of {Path(init.run).name} is elsewhere: add {known}" if others else ""
        raise CheckpointError(f"init_from.run: {error}{advice}") from error


def fitting_weights(
    pipeline: Pipeline, own: State, weights: dict[str, Tensor], init: InitConfig, checkpoint: Path
) -> tuple[list[str], dict[str, Tensor]]:
    """The networks that `init_from` copies into a method, and their weights.

    Args:
        pipeline: The method.
        own: Its own weights.
        weights: Those of the checkpoint.
        init: What to take of them.
        checkpoint: Named in errors.

    Raises:
        CheckpointError: No such network there, or weights of another shape.
    """
    weights = pipeline.migrate_state(weights)
    measured = {name for name, _ in pipeline.named_buffers(recurse=False)}
    available = sorted({name.split(".")[0] for name in weights} - measured)
    parts = list(init.parts) or available
    for part in parts:
        if part not in available:
            raise CheckpointError(f"init_from.parts names '{part}', but {checkpoint} has {', '.join(available)}")
    chosen = _of_parts(weights, parts)
    store.check_fit(chosen, _of_parts(own, parts), checkpoint)
    return parts, chosen


def refuse_shorter(saved_step: int, steps: int, checkpoint: Path) -> None:
    """CheckpointError where a run that is to be continued is beyond its end already."""
    if saved_step > steps:
        raise CheckpointError(
            f"{checkpoint} is at step {saved_step}, and this configuration ends at step {steps}: raise loop.max_steps "
            "or loop.epochs, or start a new run with another --run-dir"
        )


def runs_named(name: str, folder: Path) -> list[Path]:
    """Run folders directly in `folder` that have checkpoints of a configuration of this name."""
    found = []
    for file in sorted(folder.glob("*/config.yaml")):
        with contextlib.suppress(QuellError):  # a folder of something else
            if step_folders(file.parent / "checkpoints") and loader.read(file).get("name") == name:
                found.append(file.parent)
    return found


def _is_mutable(key: str) -> bool:
    return any(key == mutable or key.startswith(mutable + ".") for mutable in RESUME_MUTABLE_KEYS)


def _of_parts(tensors: Mapping[str, Tensor], parts: list[str]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.split(".")[0] in parts}
