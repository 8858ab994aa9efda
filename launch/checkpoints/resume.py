"""Taking a session back to a checkpoint, or refusing in one sentence; and warm starts from another run."""

from pathlib import Path
from typing import Any

import torch

from configs import loader
from configs.errors import CheckpointError, ConfigError
from configs.support.paths import resolve
from launch.checkpoints import store
from launch.machine.rng import seed_everything, set_random_state
from launch.training.session import FREE_TO_CHANGE, Session

RESUME_MODES = ("auto", "never")


def find(run_dir: Path, resume: str) -> Path | None:
    """The checkpoint `--resume` means, or None for a fresh start.

    `never` on a folder that has checkpoints is refused, so that no run is overwritten.
    """
    found = store.complete(run_dir / "checkpoints")
    if resume == "never" and found:
        raise CheckpointError(
            f"{run_dir} already has checkpoints and --resume is never: choose another "
            "--run-dir, or continue it with --resume auto"
        )
    if resume not in RESUME_MODES:
        return store.choose(resolve(resume))
    return found[-1] if found else None


def load(session: Session, path: Path) -> None:
    """Put the session where the checkpoint was taken."""
    meta = store.read_meta(path)
    refuse_other_config(meta["config"], session.config.model_dump(mode="json"), path)
    if meta["samples"] != session.plan.size:
        raise CheckpointError(
            f"{path} was trained on {meta['samples']} samples, {session.shards.path} now has "
            f"{session.plan.size}: the order depends on it; restore the data, or start anew"
        )
    weights = session.pipeline.migrate_state(store.read_weights(path))
    with session.whole(write=True):
        store.fit(weights, session.pipeline.checkpoint_state(), path)
        session.pipeline.load_checkpoint_state(weights)
    if session.average is not None:
        averaged = session.pipeline.migrate_state(store.read_weights(path, averaged=True))
        session.average.state = {name: value.to(session.device) for name, value in averaged.items()}
    state = store.read_state(path, "state.pt")
    for phase in session.phases:
        phase.load_optimizer_state(state["optimizers"][phase.name])
    session.scaler.load_state_dict(state["scaler"])
    session.plateau.state = state["plateau"]
    session.step = state["step"]
    _load_rank(session, path, meta["world"])


def refuse_other_config(saved: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    """CheckpointError naming the settings that differ and would change what is learned."""
    try:  # a setting that is younger than the checkpoint had its default
        complete = loader.structure(saved).model_dump(mode="json")
    except ConfigError:  # a setting that is gone by now is a difference
        complete = saved
    new, old = flatten(now), flatten(complete)
    changed = [
        key
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not any(key == f or key.startswith(f + ".") for f in FREE_TO_CHANGE)
    ]
    if changed:
        shown = ", ".join(f"{key} was {old.get(key)} and is {new.get(key)}" for key in changed[:3])
        more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
        raise CheckpointError(
            f"{path} was made with another configuration: {shown}{more}; set it back, or start anew "
            "with another --run-dir"
        )


def warm_start(session: Session) -> None:
    """Take named networks from another run (`init_from`), before the first step."""
    init = session.config.init_from
    if init is None:
        return
    try:
        path = store.choose(resolve(init.run), init.which)
    except CheckpointError as error:
        raise CheckpointError(f"init_from.run: {error}") from error
    weights = session.pipeline.migrate_state(store.read_weights(path, averaged=True))
    measured = {name for name, _ in session.pipeline.named_buffers(recurse=False)}  # on these data, not on the others
    available = sorted({name.split(".")[0] for name in weights} - measured)
    parts = list(init.parts) or available
    for part in parts:
        if part not in available:
            raise CheckpointError(f"init_from.parts names '{part}', but {path} has {', '.join(available)}")
    chosen = {name: value for name, value in weights.items() if name.split(".")[0] in parts}
    with session.whole(write=True):
        own = session.pipeline.checkpoint_state()
        store.fit(chosen, {name: value for name, value in own.items() if name.split(".")[0] in parts}, path)
        session.pipeline.load_checkpoint_state({**own, **chosen})
        if session.average is not None:
            session.average.state = {name: value.clone() for name, value in session.pipeline.checkpoint_state().items()}
    session.tracker.say(f"starting from {', '.join(parts)} of {path}")


def flatten(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping of dotted keys."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


def _load_rank(session: Session, path: Path, world: int) -> None:
    """This rank's own state; a rank that was not there before starts from a seed of its own."""
    if world == session.world:
        state = store.read_state(path, f"rank-{session.rank}.pt")
        set_random_state(state["random"])
        session.pipeline.load_rank_state(state["pipeline"])
        session.meter.load(state["meter"])
        return
    seed_everything(session.config.seed + 1_000_003 * session.rank + session.step)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    follows = (
        "the same samples follow"
        if session.config.data.mode == "indexed"
        else "some samples of this epoch come twice and others not at all"
    )
    session.tracker.say(
        f"the checkpoint was written by {world} processes, now there are {session.world}: {follows}; "
        "random states and image pools of the ranks start afresh"
    )
