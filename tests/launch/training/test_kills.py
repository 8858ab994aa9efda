"""A training killed at any file operation below its run folder ends, started again, in the same weights bit for bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from quell.launch import train
from tests.support.commands import Command
from tests.support.fault_points import killed_at, points_of
from tests.support.runs import read_events, read_summary, read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG

STEPS = 3

OPTIONS = (
    f"loop.max_steps={STEPS}",
    "checkpoint.every_steps=1",
    "checkpoint.keep_last=1",
    "evaluation.every_steps=1",
    "evaluation.limit=1",
    "loop.ema_decay=0.9",
    "tracking.log_every=1",
)


@pytest.fixture
def training(mini: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    """Train a small run in a folder, in this process; its evaluations get better and worse."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)

    def run(run_dir: Path) -> None:
        code = train.main(["--config", SMALL_CONFIG, f"data.root={mini}", *OPTIONS, "--run-dir", str(run_dir)])
        assert code == 0

    return run


def assert_equal_runs(run: Path, undisturbed: Path, point: str) -> None:
    """Fail unless a run has the weights, the log and the outcome of another."""
    for name in ("weights", "ema"):
        assert same_bits(read_weights(run, STEPS, name), read_weights(undisturbed, STEPS, name)), point
    assert read_summary(run)["status"] == "finished", point
    for kind in ("train", "eval"):
        assert [event["step"] for event in read_events(run, kind)] == list(range(1, STEPS + 1)), (kind, point)
    folders = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (run, undisturbed)]
    assert folders[0] == folders[1], point
    best = [(folder / "checkpoints" / "best.json").read_text() for folder in (run, undisturbed)]
    assert best[0] == best[1], point
    assert not [path for path in run.iterdir() if path.name.startswith(".") and path.name != ".lock"], point


def kill_and_resume(training: Callable[[Path], object], tmp_path: Path, every: int) -> int:
    """Kill a training at every `every`-th point and start it again; how often it was killed."""
    undisturbed = tmp_path / "undisturbed"
    points = points_of(lambda: training(undisturbed), undisturbed)
    kills = 0
    for at in range(every // 2, len(points), every):
        run = tmp_path / f"killed-{at}"
        kills += killed_at(at, lambda run=run: training(run), run)  # type: ignore[misc]
        assert not killed_at(10**9, lambda run=run: training(run), run)  # type: ignore[misc]
        assert_equal_runs(run, undisturbed, points[at])
    return kills


def test_a_training_killed_at_some_points_ends_in_the_same_weights(
    training: Callable[[Path], object], tmp_path: Path
) -> None:
    assert kill_and_resume(training, tmp_path, every=61) >= 3


@pytest.mark.slow
def test_a_training_killed_at_every_point_ends_in_the_same_weights(
    training: Callable[[Path], object], tmp_path: Path
) -> None:
    assert kill_and_resume(training, tmp_path, every=1) > 150


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "at"), [(0, 60), (0, 90), (0, 100), (0, 110), (1, 1), (1, 5)])
def test_two_processes_killed_while_they_save_end_in_the_same_weights(
    torchrun: Command, mini: Path, tmp_path: Path, rank: int, at: int
) -> None:
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", *OPTIONS]
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    fault = ["-m", "tests.support.fault_points", "--at", at, "--rank", rank, "--root", run, "--"]
    killed = torchrun([*fault, *words, "--run-dir", run], code=None)
    assert killed.code != 0 and signal.SIGKILL.name in killed.output, killed.excerpt()
    for folder in (run, undisturbed):
        torchrun(["launch/train.py", *words, "--run-dir", folder])
    assert_equal_runs(run, undisturbed, f"point {at} of rank {rank}")
