"""Which checkpoint a run continues from, whether it may, and warm starts from another run."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from configs import loader
from configs.errors import CheckpointError, ConfigError
from configs.schema import InitConfig
from configs.support.mappings import flatten
from configs.support.paths import resolve
from launch.checkpoints import store
from launch.checkpoints.capture import TrainingState

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
    "loop.threads",
    "loop.accumulate",
    "loop.channels_last",
    "loop.max_skips",
    "data.prefetch",
    "data.verify",
    "data.eval_batch_size",
    "data.root",
    "data.cache",
    "data.val_split",
    "data.test_split",
)
"""Keys (with everything below them) in which a resumed run may differ; all others decide what is learned."""


def find_checkpoint(run_dir: Path, resume: str) -> Path | None:
    """The checkpoint that `--resume` means; None for a fresh start.

    Args:
        run_dir: The run folder.
        resume: `auto` (the run's latest checkpoint, if any), `never`, or the path of a run or checkpoint folder.

    Raises:
        CheckpointError: `never` on a folder that has checkpoints, so that no run is overwritten; or a path without one.
    """
    checkpoints = store.complete(run_dir / "checkpoints")
    if resume == "never" and checkpoints:
        raise CheckpointError(
            f"{run_dir} already has checkpoints, but --resume is 'never': choose another --run-dir, or continue the "
            "run with --resume auto"
        )
    if resume not in RESUME_MODES:
        return store.choose(resolve(resume))
    return checkpoints[-1] if checkpoints else None


def refuse_other_config(saved: Mapping[str, object], current: Mapping[str, object], checkpoint: Path) -> None:
    """CheckpointError naming the settings that differ and would change what is learned.

    Args:
        saved: The configuration in the checkpoint's meta.json, perhaps of an older version.
        current: The complete configuration of this run.
        checkpoint: Named in the error.
    """
    try:  # a setting that is younger than the checkpoint had its default
        complete: Mapping[str, object] = loader.structure(dict(saved)).model_dump(mode="json")
    except ConfigError:  # a setting that no longer exists is a difference
        complete = saved
    new, old = flatten(current), flatten(complete)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and not _is_mutable(key)]
    if changed:
        shown = ", ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed[:3])
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise CheckpointError(
            f"{checkpoint} was written with another configuration: {shown}{more}; restore these settings, or start "
            "a new run with another --run-dir"
        )


def refuse_other_size(saved: int, current: int, checkpoint: Path, shards: object) -> None:
    """CheckpointError where the training split has not as many samples as when the checkpoint was written."""
    if saved != current:
        raise CheckpointError(
            f"{checkpoint} was trained on {saved} samples, but {shards} now has {current}, and the order of the "
            "samples depends on their number: restore the data, or start a new run with another --run-dir"
        )


def warm_start(state: TrainingState, init: InitConfig) -> str:
    """Copy networks from another run's checkpoint (`init_from`), before the first step; a sentence that says so.

    Buffers that a pipeline measured on its own data are not copied unless `init_from.parts` names them.

    Raises:
        CheckpointError: No checkpoint there, no such network, or weights of another shape.
    """
    try:
        checkpoint = store.choose(resolve(init.run), init.which)
    except CheckpointError as error:
        raise CheckpointError(f"init_from.run: {error}") from error
    weights = state.pipeline.migrate_state(store.read_weights(checkpoint, averaged=True))
    measured = {name for name, _ in state.pipeline.named_buffers(recurse=False)}
    available = sorted({name.split(".")[0] for name in weights} - measured)
    parts = list(init.parts) or available
    for part in parts:
        if part not in available:
            raise CheckpointError(f"init_from.parts names '{part}', but {checkpoint} has {', '.join(available)}")
    chosen = _of_parts(weights, parts)
    with state.gathered_parameters(write=True):
        own = state.pipeline.checkpoint_state()
        store.check_fit(chosen, _of_parts(own, parts), checkpoint)
        state.pipeline.load_checkpoint_state({**own, **chosen})
        if state.average is not None:
            state.average.state = {name: value.clone() for name, value in state.pipeline.checkpoint_state().items()}
    return f"starting from {', '.join(parts)} of {checkpoint}"


def _is_mutable(key: str) -> bool:
    return any(key == mutable or key.startswith(mutable + ".") for mutable in RESUME_MUTABLE_KEYS)


def _of_parts(tensors: Mapping[str, Tensor], parts: list[str]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.split(".")[0] in parts}
