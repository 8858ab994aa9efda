"""A kill before, within and after every file operation of saving loses at most the work since the last checkpoint."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from quell.launch.checkpoints import best, resume, store
from quell.launch.checkpoints.async_writer import wait_for_files
from quell.launch.checkpoints.layout import complete, step_of
from tests.support.checkpoints import save, save_like_a_run, write
from tests.support.fault_points import killed_at, points_of


@pytest.fixture(autouse=True)
def _without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are killed here, not machines."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def steps(folder: Path) -> list[int | None]:
    """The steps of the complete checkpoints."""
    return [step_of(path) for path in complete(folder)]


def every_kill(
    tmp_path: Path, prepare: Callable[[Path], object], work: Callable[[Path], object], *, stride: int = 1
) -> list[Path]:
    """Copies of a run folder, each killed at another point of `work`; fails unless there are many of them."""
    template = tmp_path / "template"
    prepare(template / "checkpoints")
    counted = tmp_path / "counted"
    shutil.copytree(template, counted)
    points = points_of(lambda: work(counted / "checkpoints"), counted)
    assert len(points) > 15, points
    killed = []
    for at in range(0, len(points), stride):
        run = tmp_path / f"killed-{at:03d}"
        shutil.copytree(template, run)
        assert killed_at(at, partial(work, run / "checkpoints"), run), points[at]
        killed.append(run)
    return killed


@pytest.mark.parametrize("keep_last", [1, 2])
def test_a_kill_while_a_checkpoint_is_saved_loses_no_checkpoint(tmp_path: Path, keep_last: int) -> None:
    def prepare(folder: Path) -> None:
        for step, value in ((1, 30.0), (2, 20.0)):
            save_like_a_run(folder, step, keep_last=keep_last, psnr=value)

    def work(folder: Path) -> None:
        save_like_a_run(folder, 3, keep_last=keep_last, psnr=31.0)

    reached = set()
    for run in every_kill(tmp_path, prepare, work, stride=keep_last):
        folder = run / "checkpoints"
        resumption = resume.find_checkpoint(run, "auto")
        assert resumption.checkpoint is not None and not resumption.warnings
        step = step_of(resumption.checkpoint)
        assert step in (2, 3)
        reached.add(step)
        assert store.read_weights(resumption.checkpoint)["net.weight"].eq(step or 0).all()
        assert store.choose(run, "best").name == ("step-00000003" if step == 3 else "step-00000001")
        assert not list(folder.glob(".*")), "nothing hidden is left"
        save_like_a_run(folder, 4, keep_last=keep_last, psnr=1.0)  # the run goes on
        assert steps(folder) == ([3, 4] if step == 3 else [1, 4] if keep_last == 1 else [1, 2, 4])
        assert best.read_best(folder) == {
            "step": step if step == 3 else 1,
            "metric": "psnr",
            "value": 31.0 if step == 3 else 30.0,
        }
    assert reached == {2, 3}


def test_a_kill_while_the_only_checkpoint_is_saved_again_loses_nothing(tmp_path: Path) -> None:
    """As once when a signal arrived at a step that had just been saved: that step's checkpoint was removed first."""
    for run in every_kill(tmp_path, lambda folder: save(folder, 5), lambda folder: save(folder, 5, psnr=20.0)):
        checkpoint = resume.find_checkpoint(run, "auto").checkpoint
        assert checkpoint is not None and checkpoint.name == "step-00000005"
        assert store.read_weights(checkpoint)["net.weight"].eq(5).all()
        assert steps(run / "checkpoints") == [5]


def test_a_kill_while_a_killed_save_is_recovered_loses_nothing(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        save(folder, 1)
        save(folder, 2).rename(folder / ".step-00000002")
        save(folder, 3).rename(folder / ".removed-step-00000003")
        write(store.begin(folder, 4), 4)

    for run in every_kill(tmp_path, prepare, store.recover):
        store.recover(run / "checkpoints")
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000001", "step-00000002"]


def test_a_kill_of_either_of_two_processes_loses_no_checkpoint(tmp_path: Path) -> None:
    """Rank 1 writes its own file into the folder that rank 0 publishes."""

    def rank_1(folder: Path) -> None:
        store.write_state(folder / ".step-00000002", "rank-1.pt", {"rank": 1})

    def rank_0(folder: Path) -> None:
        hidden = folder / ".step-00000002"
        write(hidden, 2)
        wait_for_files([hidden / "rank-0.pt", hidden / "rank-1.pt"], 10)
        store.retain(store.publish(hidden, {"step": 2, "world": 2, "metrics": {}}), 1, "psnr")

    def prepare(folder: Path) -> None:
        save(folder, 1)
        store.begin(folder, 2)

    template = tmp_path / "template"
    prepare(template / "checkpoints")
    for at in range(points_in(template, rank_1)):
        run = tmp_path / f"rank-1-{at}"
        shutil.copytree(template, run)
        assert killed_at(at, partial(rank_1, run / "checkpoints"), run)
        write(run / "checkpoints" / ".step-00000002", 2)  # rank 0 waits, and is ended by its launcher
        checkpoint = resume.find_checkpoint(run, "auto").checkpoint
        assert checkpoint is not None and checkpoint.name == "step-00000001"
    rank_1(template / "checkpoints")
    for at in range(points_in(template, rank_0)):
        run = tmp_path / f"rank-0-{at}"
        shutil.copytree(template, run)
        assert killed_at(at, partial(rank_0, run / "checkpoints"), run)
        checkpoint = resume.find_checkpoint(run, "auto").checkpoint
        assert checkpoint is not None and checkpoint.name in ("step-00000001", "step-00000002")
        assert "rank-1.pt" in os.listdir(checkpoint) or checkpoint.name == "step-00000001"


def points_in(template: Path, work: Callable[[Path], object]) -> int:
    """How many points `work` has on a copy of the template."""
    copy = template.with_name("counted")
    shutil.copytree(template, copy)
    count = len(points_of(lambda: work(copy / "checkpoints"), copy))
    shutil.rmtree(copy)
    return count
