"""One training on the fake device: steps, average, log, checkpoint and evaluation, by the code that a GPU would run."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from quell.configs.schema import LoopConfig, RunConfig
from quell.launch.checkpoints import capture as checkpoint
from quell.launch.checkpoints import store
from quell.launch.checkpoints.capture import Capture
from quell.launch.machine import arithmetic, devices, memory_layout, precision
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
from quell.launch.training import loop
from quell.launch.training.trainer import Trainer, assemble
from quell.pipelines.base import Batch
from tests.gpu.fake_cuda import fake_mode
from tests.gpu.operators import Observer

DEVICE = torch.device("cuda", 0)


@dataclass
class Rehearsal:
    """What was seen of one configuration in one precision."""

    problems: list[str] = field(default_factory=list)
    """What a GPU would suffer from, each with the line of code."""
    launches: int = 0
    """Operators of the second training step that launch a kernel."""
    kernels: list[str] = field(default_factory=list)
    """Every operator that launched one, in training or evaluation."""


def rehearse(config: RunConfig, folder: Path) -> Rehearsal:
    """Train two steps, log them, save and load a checkpoint, train a third step, and evaluate the validation split."""
    observer = Observer()
    with contextlib.ExitStack() as stack:
        stack.callback(_leave_accelerator)
        accelerator = _accelerator()
        run_folder = RunFolder(folder)
        run_folder.create()
        tracker = Tracker(run_folder, active=False, tensorboard=False)
        stack.callback(arithmetic.set_determinism, False)
        arithmetic.set_determinism(True)
        stack.enter_context(_without_values(observer))
        trainer = _assembled(config, accelerator, run_folder, tracker, stack)
        stack.enter_context(observer)
        _train(trainer, 2, observer)
        launches = sum(observer.launches.values())
        trainer.log_interval()
        trainer.end_epoch()
        _reload(trainer)
        _train(trainer, 1, observer)
        _check_states(trainer, observer)
        trainer.validator.evaluate()
    counted = [f"{problem} ({count} times)" for problem, count in sorted(observer.problems.items())]
    return Rehearsal(counted, launches, sorted(observer.kernels))


def _accelerator() -> Accelerator:
    """accelerate's own of one process, on the fake device."""
    accelerator = Accelerator(cpu=True)
    PartialState._shared_state["device"] = DEVICE
    AcceleratorState._shared_state["device"] = DEVICE
    return accelerator


def _leave_accelerator() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)


def _assembled(
    config: RunConfig, accelerator: Accelerator, folder: RunFolder, tracker: Tracker, stack: contextlib.ExitStack
) -> Trainer:
    """The parts of a run; everything is fake from where the networks move to the device."""

    def place(network: nn.Module, device: torch.device, loop: LoopConfig) -> None:
        if memory_layout.takes_channels_last(network, device, loop):  # before the move: fake weights cannot be replaced
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        stack.enter_context(fake_mode())
        network.to(device)

    with mock.patch.object(memory_layout, "place", place):
        return assemble(config, accelerator, folder, tracker)


def _train(trainer: Trainer, steps: int, observer: Observer) -> None:
    """Let the training loop take steps, of all phases; the first, which may fill caches, is not observed as a step.

    A step is what the loop does from one batch to the next.
    """

    def observed(batches: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        for number, batch in enumerate(itertools.islice(batches, steps)):
            with observer.step() if number else contextlib.nullcontext():
                yield batch

    every_phase = mock.patch.object(trainer.state.pipeline, "is_active", lambda phase, step: True)
    with every_phase, trainer.batches() as batches:
        loop.train(trainer, observed(iter(batches)))


def _reload(trainer: Trainer) -> None:
    """Capture a checkpoint and restore it, as if it had been written and read."""
    state = trainer.state
    captured = checkpoint.capture(state, rank=0, snapshots=None)()
    with _stored(captured, state.pipeline.draws):
        checkpoint.restore(state, Path("checkpoint"))
        checkpoint.restore_rank(state, Path("checkpoint"), rank=0)


@contextlib.contextmanager
def _stored(captured: Capture, draws: int) -> Iterator[None]:
    """Inside the block the files of a checkpoint are this capture's content, of this version of the random draws."""
    meta = {"step": captured.shared_state["step"], "draws": draws}

    def weights(path: Path, averaged: bool = False) -> dict[str, Tensor]:
        content = captured.average if averaged and captured.average is not None else captured.weights
        return {name: value.cpu() for name, value in content.items()}

    def state(path: Path, name: str) -> Any:
        return captured.shared_state if name == "state.pt" else captured.rank_state

    with (
        mock.patch.object(store, "read_weights", weights),
        mock.patch.object(store, "read_state", state),
        mock.patch.object(store, "read_meta", lambda path: meta),
    ):
        yield


def _check_states(trainer: Trainer, observer: Observer) -> None:
    """Optimizer state is float32 and on the device, as the average is."""
    for phase in trainer.phases:
        for values in phase.optimizer.state.values():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.dim() and value.dtype not in (torch.float32, torch.complex64):
                    observer.report(f"optimizer state {name} is {value.dtype}")
                if isinstance(value, Tensor) and value.dim() and value.device.type != "cuda":
                    observer.report(f"optimizer state {name} is on {value.device}")
    if trainer.average is not None:
        for name, value in trainer.average.state.items():
            if value.device.type != "cuda":
                observer.report(f"the average of {name} is on {value.device}")


@contextlib.contextmanager
def _without_values(observer: Observer) -> Iterator[None]:
    """Inside the block, what reads the values of fake tensors gets ones, and what asks the device gets an answer."""
    real_numpy, real_list, real_empty = Tensor.numpy, Tensor.tolist, torch.empty

    def to_numpy(tensor: Tensor, *arguments: Any, **options: Any) -> np.ndarray:
        if not isinstance(tensor, FakeTensor):
            return real_numpy(tensor, *arguments, **options)
        if tensor.device.type != "cpu":
            observer.report("numpy() of a tensor on the device")
        return np.ones([int(size) for size in tensor.shape], dtype=str(tensor.dtype).removeprefix("torch."))

    def to_list(tensor: Tensor) -> Any:
        if not isinstance(tensor, FakeTensor):
            return real_list(tensor)
        if tensor.fake_device.type != "cpu" and observer.in_step:
            observer.report("values are read from the device")
        return to_numpy(tensor.cpu()).tolist()

    def empty(*arguments: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        return real_empty(*arguments, **options)

    with (
        mock.patch.object(Tensor, "numpy", to_numpy),
        mock.patch.object(Tensor, "tolist", to_list),
        mock.patch.object(Tensor, "pin_memory", lambda tensor, *arguments: tensor),
        mock.patch.object(torch, "empty", empty),
        mock.patch.object(checkpoint, "random_state", lambda device: {}),
        mock.patch.object(checkpoint, "set_random_state"),
        mock.patch.object(devices, "name", lambda device: "no data"),
        mock.patch.object(precision, "computes", lambda device, dtype: True),
    ):
        yield
