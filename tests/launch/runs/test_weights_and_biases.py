"""What Weights & Biases is told about a run: where its files go, that all starts are one run, curves and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.launch.runs import weights_and_biases
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker


class Recorder:
    """Stands in for accelerate, which would need the package wandb."""

    def __init__(self, *, is_main_process: bool = True) -> None:
        self.is_main_process = is_main_process
        self.log_with: list[object] = []
        self.options: dict[str, Any] = {}
        self.logged: list[tuple[dict[str, float], int]] = []
        self.pictures: list[tuple[str, np.ndarray, int]] = []

    @property
    def trackers(self) -> list[object]:
        return [self, object()]  # the second is of a kind that takes no pictures

    def log_images(self, values: dict[str, list[np.ndarray]], step: int) -> None:
        self.pictures += [(name, picture, step) for name, pictures in values.items() for picture in pictures]

    def init_trackers(self, project: str, config: object, init_kwargs: dict[str, Any]) -> None:
        self.options = {"project": project, **init_kwargs["wandb"]}

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((values, step))


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_and_biases.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(weights_and_biases, "filter_trackers", list)


def start(run_dir: Path, **options: bool) -> Recorder:
    accelerator: Any = Recorder(**options)
    weights_and_biases.start(accelerator, "knees", {}, run_dir).curves({"loss": 1.0}, 7)
    assert accelerator.logged == [({"loss": 1.0}, 7)]
    recorder: Recorder = accelerator
    return recorder


def test_all_starts_of_a_run_are_one_run_whose_files_are_in_its_folder(tmp_path: Path) -> None:
    first, second = start(tmp_path / "a").options, start(tmp_path / "a").options
    assert first == second and first["resume"] == "allow"
    assert (first["project"], first["name"], first["dir"]) == ("knees", "a", str(tmp_path / "a"))
    assert start(tmp_path / "b").options["id"] != first["id"]


def test_only_the_main_process_makes_up_an_id(tmp_path: Path) -> None:
    assert "id" not in start(tmp_path / "a", is_main_process=False).options
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("tensorboard", [False, True])
def test_it_gets_every_picture_in_the_order_of_the_steps(tmp_path: Path, tensorboard: bool) -> None:
    """At once, not from TensorBoard's thread: it ignores what comes after a later step."""
    accelerator, folder = Recorder(), RunFolder(tmp_path / "run")
    folder.create()
    tracker = Tracker(folder, active=True, tensorboard=tensorboard)
    tracker.also = weights_and_biases.AccelerateTrackers(accelerator)
    assert tracker.draws
    for step in range(20):
        tracker.images("pd/slice 1", np.full((8, 24, 3), step, np.uint8), step)
        tracker.event("eval", step, {"psnr": 20.0})
        assert [picture.max() for _, picture, _ in accelerator.pictures] == list(range(step + 1))
        assert (accelerator.pictures[-1][0], accelerator.pictures[-1][2], accelerator.logged[-1][1]) == (
            "pd/slice 1",
            step,
            step,
        )
    tracker.close()
    assert not tracker.draws


def test_other_processes_draw_nothing(tmp_path: Path) -> None:
    accelerator = Recorder(is_main_process=False)
    tracker = Tracker(RunFolder(tmp_path), active=False, tensorboard=True)
    tracker.also = weights_and_biases.AccelerateTrackers(accelerator)
    tracker.images("pd", np.zeros((8, 24, 3), np.uint8), 1)
    assert not tracker.draws and accelerator.pictures == []
