"""Weights & Biases online: what the server holds of each kind of curves, and steps that it would refuse."""

from pathlib import Path
from typing import Any

import pytest

from quell.configs.tracking import TrackingConfig
from quell.launch.runs.trackers.backend import TrackedRun
from quell.launch.runs.trackers.weights_and_biases import WeightsAndBiases


class Server:
    """The library's run and accelerate's tracker in one, which take nothing for a step before their own."""

    def __init__(self, *, resumed: bool, starting_step: int = 0, summary: dict[str, Any] | None = None) -> None:
        self.resumed, self.starting_step, self.summary = resumed, starting_step, summary or {}
        self.rows: dict[int, dict[str, float]] = {}
        self.ended: list[object] = []

    @property
    def tracker(self) -> "Server":
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        assert step >= max(self.rows, default=self.starting_step), "the server has gone further"
        self.rows.setdefault(step, {}).update(values)

    def mark_preempting(self) -> None:
        self.ended.append("preempting")

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)


def started(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsAndBiases:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(WeightsAndBiases, "begin", lambda self, *_, **__: setattr(self, "tracker", server))
    backend = WeightsAndBiases(TrackedRun("run", tmp_path, TrackingConfig(), {}), "0123", {"train": 40, "val": 20})
    assert backend.start() == "0123"
    return backend


def test_the_evaluation_that_a_kill_kept_from_the_server_is_sent_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(resumed=True, starting_step=41, summary={"train/step": 40, "val/step": 20})
    backend = started(server, tmp_path, monkeypatch)
    assert backend.sent() == {"train": 40, "val": 20}
    backend.log({"val/psnr": 30.0}, 40)
    for step in (41, 42, 60):
        backend.log({"train/loss": 1.0}, step)
    backend.log({"val/psnr": 31.0}, 60)
    assert server.rows == {
        41: {"val/psnr": 30.0, "val/step": 40},
        42: {"train/loss": 1.0, "train/step": 41},
        43: {"train/loss": 1.0, "train/step": 42},
        60: {"train/loss": 1.0, "train/step": 60, "val/psnr": 31.0, "val/step": 60},
    }


def test_steps_are_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(resumed=True, starting_step=41, summary={"train/step": 40, "val/step": 40})
    backend = started(server, tmp_path, monkeypatch)
    backend.log({"train/loss": 1.0}, 41)
    backend.log({"val/psnr": 1.0}, 41)
    assert list(server.rows) == [41]


def test_a_server_that_has_never_heard_of_the_run_is_sent_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(Server(resumed=False), tmp_path, monkeypatch).sent() == {}


def test_a_run_of_an_earlier_version_goes_on_after_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = started(Server(resumed=True, starting_step=41, summary={"val/psnr": 3.0}), tmp_path, monkeypatch)
    assert backend.sent() == {"train": 40, "val": 40}


def test_a_stopped_run_is_preempted_and_a_failed_one_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(resumed=False)
    backend = started(server, tmp_path, monkeypatch)
    backend.finish("finished")
    backend.finish("stopped")
    backend.finish("failed")
    assert server.ended == [0, "preempting", 1, 1]
