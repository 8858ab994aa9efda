"""What a tracker is told of a training: how it ended, and whether it is the run that was in the folder before."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from quell.configs.errors import DivergedError
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers import choice
from quell.launch.runs.trackers.backend import Backend
from quell.launch.training import loop, run
from tests.support.small_runs import SmallRun, write_mini


class Told(Backend):
    """Remembers ids and endings."""

    ids: ClassVar[list[str]] = []
    endings: ClassVar[list[Ending]] = []

    def start(self) -> str:
        identity = self.identity or f"run {len(set(self.ids))}"
        self.ids.append(identity)
        self.tracker = self
        return identity

    def configure(self) -> None:
        assert self.run.config["run"]["processes"] == 1

    def log(self, values: dict[str, float], step: int) -> None:
        pass

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        pass

    def finish(self, ending: Ending) -> None:
        self.endings.append(ending)


OVERRIDES = ("loop.max_steps=2", "tracking.trackers=[mlflow]", "evaluation.images=0")


@pytest.fixture(autouse=True)
def _told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "BACKENDS", {"mlflow": Told})
    monkeypatch.setattr(choice, "require", lambda tracking: None)
    monkeypatch.setattr(Told, "ids", [])
    monkeypatch.setattr(Told, "endings", [])
    yield


def test_it_is_told_how_the_run_ended(small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = small_run(*OVERRIDES), tmp_path / "run"
    assert run.train(config, folder, stop_at=1) == 0
    with monkeypatch.context() as patch:

        def diverge(*arguments: object) -> str:
            raise DivergedError("the loss is not finite")

        patch.setattr(loop, "train", diverge)
        with pytest.raises(DivergedError):
            run.train(config, folder)
        patch.setattr(loop, "train", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.train(config, folder)
    assert run.train(config, folder) == 0
    assert Told.endings == ["stopped", "failed", "stopped", "finished"] and set(Told.ids) == {"run 0"}


def test_a_run_that_starts_afresh_on_other_data_is_another_one(small_run: SmallRun, tmp_path: Path) -> None:
    data, folder = write_mini(tmp_path / "data"), tmp_path / "run"
    for changes in (False, True):
        if changes:
            shutil.rmtree(data / "train")
            shutil.copytree(data / "val", data / "train")
        for _ in range(2):
            assert run.train(small_run(*OVERRIDES, f"data.root={data}"), folder) == 0
            shutil.rmtree(folder / "checkpoints")
    assert Told.ids == ["run 0", "run 0", "run 1", "run 1"]


def test_a_run_that_starts_afresh_with_other_code_is_another_one(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = small_run(*OVERRIDES), tmp_path / "run"
    assert run.train(config, folder, stop_at=1) == 0
    monkeypatch.setattr(run.files, "contents", lambda root: {"launch/train.py": b"mended"})
    assert run.train(config, folder) == 0, "a run that continues is the same, whatever its code"
    shutil.rmtree(folder / "checkpoints")
    assert run.train(config, folder) == 0
    assert Told.ids == ["run 0", "run 0", "run 1"]
