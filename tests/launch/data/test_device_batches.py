"""Batches on their way to a device: one step ahead by a stream of their own, without waiting for the loader."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from quell.launch.data import device_batches
from quell.launch.data.device_batches import DeviceBatches
from quell.pipelines.base import Batch

CUDA = torch.device("cuda")


class Source:
    """A loader of one micro-batch a step that says whether the next is ready, and may fail in its place."""

    def __init__(self, steps: int, ready: set[int], log: list[str], fails_at: int | None = None) -> None:
        self.steps, self.ready, self.log, self.fails_at, self.taken = steps, ready, log, fails_at, 0

    @property
    def is_ready(self) -> bool:
        return self.taken in self.ready

    def __iter__(self) -> Iterator[list[Batch]]:
        while self.taken < self.steps:
            number, self.taken = self.taken, self.taken + 1
            self.log.append(f"take {number}")
            if number == self.fails_at:
                raise ValueError(f"damaged {number}")
            yield [{"x": torch.full((2,), float(number)), "key": ["a", "b"]}]


class Logged(torch.Tensor):
    """A tensor that notes on which streams its memory is in use."""

    happened: list[str]

    def record_stream(self, stream: Any) -> None:
        self.happened.append(f"{stream} uses {int(self[0])}")


class Stream:
    """A stream that notes what happens on it."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def __str__(self) -> str:
        return self.name

    def record_event(self) -> str:
        return self.log[-1].removeprefix("copy ")

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens, in order, with the streams of CUDA and the copies replaced by notes."""
    happened: list[str] = []
    Logged.happened = happened
    current = [Stream("training", happened)]

    @contextlib.contextmanager
    def inside(stream: Stream) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    def copy(batch: Batch, device: torch.device) -> Batch:
        assert device == CUDA
        happened.append(f"copy {int(batch['x'][0])} by {current[-1]}")
        return {name: v.clone().as_subclass(Logged) if torch.is_tensor(v) else v for name, v in batch.items()}

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copier", happened))
    monkeypatch.setattr(torch.cuda, "stream", inside)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(device_batches, "to_device", copy)
    return happened


def train(batches: DeviceBatches, log: list[str]) -> None:
    for (batch,) in batches:
        assert batch["key"] == ["a", "b"]
        log.append(f"step {int(batch['x'][0])}")


def test_the_next_batch_is_copied_before_the_step_begins(log: list[str]) -> None:
    train(DeviceBatches(Source(3, {0, 1, 2, 3}, log), CUDA), log)
    assert log == [
        "take 0",
        "copy 0 by copier",
        "take 1",
        "copy 1 by copier",
        "training waits for 0 by copier",
        "training uses 0",
        "step 0",
        "take 2",
        "copy 2 by copier",
        "training waits for 1 by copier",
        "training uses 1",
        "step 1",
        "training waits for 2 by copier",
        "training uses 2",
        "step 2",
    ]


def test_a_step_does_not_wait_for_the_batch_after_it(log: list[str]) -> None:
    """Only what is ready is copied ahead: 1 is not, so that the loader is asked for it after step 0."""
    train(DeviceBatches(Source(3, {2}, log), CUDA), log)
    assert log.index("step 0") < log.index("take 1") < log.index("take 2") < log.index("step 1") < log.index("step 2")


@pytest.mark.parametrize("ready", [{0, 1, 2, 3}, set()], ids=["ahead", "late"])
def test_a_damaged_batch_ends_training_in_its_own_step(log: list[str], ready: set[int]) -> None:
    with pytest.raises(ValueError, match="damaged 2"):
        train(DeviceBatches(Source(5, ready, log, fails_at=2), CUDA), log)
    assert [entry for entry in log if entry.startswith("step")] == ["step 0", "step 1"]


def test_on_a_cpu_nothing_is_taken_ahead_or_copied() -> None:
    log: list[str] = []
    source = Source(3, {0, 1, 2, 3}, log)
    train(DeviceBatches(source, torch.device("cpu")), log)
    assert log == ["take 0", "step 0", "take 1", "step 1", "take 2", "step 2"]


def test_further_tensors_are_made_on_the_host_and_copied_with_the_batch(log: list[str]) -> None:
    def extras(batch: Batch) -> Batch:
        assert type(batch["x"]) is torch.Tensor  # not a copy yet
        log.append(f"extras {int(batch['x'][0])}")
        return {"y": -batch["x"]}

    batches = DeviceBatches(Source(2, {1}, log), CUDA, extras)
    assert [float(batch["y"][0]) for (batch,) in batches] == [0.0, -1.0]
    made_and_copied = [entry for entry in log if entry.startswith(("extras", "copy"))]
    assert made_and_copied == ["extras 0", "copy 0 by copier", "extras 1", "copy 1 by copier"]
