"""What a checkpoint holds: captured from the training state and restored into it, side by side.

| file | content |
|---|---|
| weights.safetensors | `pipeline.checkpoint_state()` |
| ema.safetensors | the moving average of the same tensors, where one is kept |
| state.pt | step, loss scaler, plateau schedule, early stop, one optimizer state per phase |
| rank-R.pt | rank R's random number generators, image pools, and the epoch sums of its metric log |
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from quell.launch.checkpoints import store
from quell.launch.checkpoints.snapshot import Snapshots, cloned
from quell.launch.machine.rng import random_state, set_random_state
from quell.pipelines.base import Pipeline, State


class CheckpointedPhase(Protocol):
    """What a checkpoint needs of a phase (launch/training/phases.py)."""

    name: str
    shards_parameters: bool

    def gathered_parameters(self, *, write: bool = False) -> AbstractContextManager[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept. Collective."""

    def optimizer_state(self) -> State:
        """The optimizer's state for all parameters. Collective."""

    def load_optimizer_state(self, saved: State) -> None:
        """Restore what `optimizer_state` returned."""


class Stateful(Protocol):
    """Something with a state of plain values that may be replaced (the plateau schedule, the early stop)."""

    state: State


class Averaged(Protocol):
    """A moving average of weights (launch/training/ema.py)."""

    state: dict[str, Tensor]


class Resumable(Protocol):
    """A log that continues inside an epoch (launch/training/metric_log.py)."""

    def state(self) -> State:
        """The sums of the current epoch."""

    def load(self, state: State) -> None:
        """Continue from what `state` returned."""


@dataclass
class TrainingState:
    """Everything that training changes and a checkpoint holds."""

    pipeline: Pipeline
    phases: Sequence[CheckpointedPhase]
    scaler: torch.amp.GradScaler
    plateau: Stateful
    early_stop: Stateful
    average: Averaged | None
    log: Resumable
    step: int = 0
    """Optimizer steps taken."""

    def gathered_parameters(self, *, write: bool = False) -> AbstractContextManager[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept. Collective."""
        return self.phases[0].gathered_parameters(write=write)

    @property
    def shards_parameters(self) -> bool:
        """Whether no process holds all weights outside `gathered_parameters` (ZeRO-3)."""
        return self.phases[0].shards_parameters


Parts = tuple[State, State, dict[str, Tensor], dict[str, Tensor] | None]
"""The fields of a `Capture`."""


@dataclass(frozen=True)
class Capture:
    """One process's part of a checkpoint."""

    rank_state: State
    shared_state: State
    """The same on all ranks; rank 0 writes it, and the others leave it empty, as what follows."""
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None

    def write(self, folder: Path, rank: int) -> None:
        """Write this process's files into the hidden folder of an unpublished checkpoint."""
        store.write_state(folder, f"rank-{rank}.pt", self.rank_state)
        if rank == 0:
            store.write_weights(folder, self.weights, self.average)
            store.write_state(folder, "state.pt", self.shared_state)


def capture(state: TrainingState, *, rank: int, snapshots: Snapshots | None) -> Callable[[], Capture]:
    """This moment's checkpoint of this process. Collective.

    Args:
        state: Everything that training changes.
        rank: This process; only rank 0 keeps what is the same on all ranks.
        snapshots: Copies every tensor, so that the checkpoint may be written while training goes on; None where
            training waits until it is written.

    Returns:
        What a thread calls once, before it writes the checkpoint.
    """
    with _parts(state, rank) as parts:
        if snapshots is not None:
            take = snapshots.take(parts)
            return lambda: Capture(*take())
        if state.shards_parameters:  # gathered weights are gone after the block
            parts = cloned(parts)
    return lambda: Capture(*parts)


def reserve(state: TrainingState, *, rank: int, snapshots: Snapshots) -> None:
    """Allocate the memory for this process's captures of states like this one, in a thread. Collective."""
    with _parts(state, rank) as parts:
        snapshots.reserve(parts)


@contextmanager
def _parts(state: TrainingState, rank: int) -> Iterator[Parts]:
    """Inside the block, the state itself, as the fields of a `Capture`. Collective."""
    device = next(state.pipeline.parameters()).device
    rank_state = {"random": random_state(device), "pipeline": state.pipeline.rank_state(), "meter": state.log.state()}
    shared_state = {
        "step": state.step,
        "scaler": state.scaler.state_dict(),
        "plateau": state.plateau.state,
        "early_stop": state.early_stop.state,
        "optimizers": {phase.name: phase.optimizer_state() for phase in state.phases},
    }
    with state.gathered_parameters():
        if rank == 0:
            average = state.average.state if state.average is not None else None
            yield rank_state, shared_state, state.pipeline.checkpoint_state(), average
        else:
            yield rank_state, {}, {}, None


def restore(state: TrainingState, checkpoint: Path) -> None:
    """Return weights, average, optimizers, schedules and the version of the random draws to those of a checkpoint.

    `restore_rank` does the rest.

    Raises:
        CheckpointError: The files cannot be read, or hold the weights of another model.
    """
    state.pipeline.draws = store.read_draws(checkpoint)
    weights = state.pipeline.migrate_state(store.read_weights(checkpoint))
    with state.gathered_parameters(write=True):
        store.check_fit(weights, state.pipeline.checkpoint_state(), checkpoint)
        state.pipeline.load_checkpoint_state(weights)
    if state.average is not None:
        average = state.pipeline.migrate_state(store.read_weights(checkpoint, averaged=True))
        with state.gathered_parameters():
            own = state.pipeline.checkpoint_state()
            store.check_fit(average, own, checkpoint)
            # in the weights' order in memory, which the files do not record: else every update copies tensor by tensor
            state.average.state = {
                name: torch.empty_like(own[name], dtype=value.dtype).copy_(value) for name, value in average.items()
            }
    shared_state = store.read_state(checkpoint, "state.pt")
    if shared_state["step"] != (step := store.read_meta(checkpoint)["step"]):  # of format 1, without checksums
        raise store.damage(checkpoint, [f"state.pt is of step {shared_state['step']}, not of step {step}"])
    for phase in state.phases:
        phase.load_optimizer_state(shared_state["optimizers"][phase.name])
    if shared_state["scaler"]:  # empty unless the run was in fp16
        state.scaler.load_state_dict(shared_state["scaler"])
    state.plateau.state = shared_state["plateau"]
    state.early_stop.state = shared_state.get("early_stop", state.early_stop.state)  # since version 0.3
    state.step = shared_state["step"]


def restore_rank(state: TrainingState, checkpoint: Path, *, rank: int) -> None:
    """Return this rank's random numbers, image pools and epoch sums to what a checkpoint of the same world holds."""
    rank_state = store.read_state(checkpoint, f"rank-{rank}.pt")
    set_random_state(rank_state["random"])
    state.pipeline.load_rank_state(rank_state["pipeline"])
    state.log.load(rank_state["meter"])
