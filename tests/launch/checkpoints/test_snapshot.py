"""Snapshots of a training state: this moment's values, in one block of memory that is used again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from quell.launch.checkpoints.snapshot import Snapshots, cloned, fetching, tensors_in
from quell.launch.machine import devices
from quell.launch.training import run
from tests.support.small_runs import SmallRun

TENSORS = {
    "weights": torch.randn(3, 4),
    "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.randn(4, 3).T,
    "expanded": torch.ones(1, 3).expand(2, 3),
    "every_other": torch.arange(6.0)[::2],
    "scalar": torch.tensor(3.5),
    "empty": torch.empty(0, 4),
    "flags": torch.tensor([True, False, True]),
    "half": torch.randn(5).bfloat16(),
    "complex": torch.randn(3, dtype=torch.complex64),
    "counter": torch.tensor(7),
}
"""Every kind of tensor that a state may hold."""


def pointers(state: object) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors_in(state)]


@pytest.mark.parametrize("name", TENSORS)
def test_a_snapshot_is_unaffected_by_later_changes(name: str) -> None:
    tensor = TENSORS[name].clone() if name != "expanded" else TENSORS[name]
    before = tensor.clone()
    state: dict[str, Any] = {"alone": tensor, "list": [tensor, 1], "pair": (tensor, "a"), "number": 2.5}
    copy = Snapshots().take(state)()
    if name != "expanded":
        tensor.zero_()
    for copied in (copy["alone"], copy["list"][0], copy["pair"][0]):
        assert torch.equal(copied, before) and copied.dtype == before.dtype and copied.stride() == before.stride()
    assert copy["list"][1:] == [1] and copy["pair"][1] == "a" and copy["number"] == 2.5
    state["list"].append(2)
    assert len(copy["list"]) == 2


def test_the_next_snapshot_takes_the_same_memory_unless_it_does_not_fit() -> None:
    snapshots, state = Snapshots(), [torch.ones(100), torch.zeros(3)]
    first = snapshots.take(state)()
    state[0].add_(1)
    second = snapshots.take(state)()
    assert pointers(second) == pointers(first) and torch.equal(second[0], torch.full((100,), 2.0))
    larger = snapshots.take([*state, torch.ones(5)])()
    assert [tensor.tolist() for tensor in larger] == [[2.0] * 100, [0.0] * 3, [1.0] * 5]


def test_memory_is_reserved_for_the_first_snapshot() -> None:
    snapshots, state = Snapshots(), {"weights": torch.ones(100)}
    snapshots.reserve(state)
    snapshots._join()
    reserved = pointers(snapshots._copies)
    assert pointers(snapshots.take(state)()) == reserved


def test_a_file_holds_only_the_tensors_that_were_saved(tmp_path: Path) -> None:
    copy = Snapshots().take({"large": torch.ones(100_000), "small": torch.arange(4.0)})()
    torch.save(copy["small"], tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 10_000
    assert torch.load(tmp_path / "small.pt", weights_only=True).tolist() == [0, 1, 2, 3]


def test_a_clone_has_memory_of_its_own() -> None:
    state = {"weights": [torch.ones(2)]}
    copy = cloned(state)
    state["weights"][0].add_(1)
    assert copy["weights"][0].tolist() == [1, 1]


class DeviceModule:
    """Records what is asked of a device: a stand-in for torch.cuda."""

    def __init__(self) -> None:
        calls = self.calls = []  # type: list[str]

        class Event:
            def record(self, stream: object = None) -> None:
                calls.append(f"record on {'own stream' if stream else 'training stream'}")

            def synchronize(self) -> None:
                calls.append("wait for it")

        class Stream:
            def __init__(self, device: torch.device) -> None:
                assert device == torch.device("cuda:0")

            def wait_event(self, event: Event) -> None:
                calls.append("own stream waits")

        self.Event, self.Stream = Event, Stream

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        """The block runs on the stream."""
        self.calls.append("enter own stream")
        yield
        self.calls.append("leave own stream")


class Copied(Tensor):
    """A tensor that records when it is written to."""

    calls: list[str]

    def copy_(self, source: Tensor, non_blocking: bool = False) -> "Copied":
        """Copy, noting whether the host waits."""
        self.calls.append("copy" if non_blocking else "copy and wait")
        super().copy_(source)
        return self


def test_tensors_of_a_device_are_fetched_by_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module, target = DeviceModule(), torch.zeros(3).as_subclass(Copied)
    target.calls = module.calls
    monkeypatch.setattr(devices, "module_of", lambda device: module)
    fetch = fetching(torch.device("cuda:0"), [(target, torch.ones(3))])
    assert module.calls == ["record on training stream"]  # this thread only leaves a mark behind what it has enqueued
    fetch()
    assert module.calls[1:] == [
        "enter own stream",
        "own stream waits",
        "copy",
        "record on own stream",
        "leave own stream",
        "wait for it",
    ]
    assert target.tolist() == [1, 1, 1]


def test_a_device_without_streams_is_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "module_of", lambda device: object())
    target = torch.zeros(3)
    fetching(torch.device("mps"), [(target, torch.ones(3))])()
    assert target.tolist() == [1, 1, 1]


def test_a_run_reserves_the_memory_of_its_checkpoints_in_a_thread_once(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate, threads = Snapshots._allocate, []

    def recorded(self: Snapshots, layout: Any, *, pinned: bool) -> None:
        threads.append(threading.current_thread().name)
        assert not pinned
        allocate(self, layout, pinned=pinned)

    monkeypatch.setattr(Snapshots, "_allocate", recorded)
    settings = ("tracking.log_every=1", "evaluation.every_epochs=null", "loop.epochs=null")
    run.train(small_run("loop.max_steps=6", "checkpoint.every_steps=2", *settings), tmp_path / "saves")
    assert threads == ["quell-snapshot-memory"]
    threads.clear()
    run.train(small_run("loop.max_steps=2", "checkpoint.every_steps=2", *settings), tmp_path / "saves_at_the_end")
    assert threads == []
