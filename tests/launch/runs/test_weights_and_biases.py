"""What Weights & Biases is told about a run: where its files go, and that all starts are one run."""

from pathlib import Path
from typing import Any

import pytest

from launch.runs import weights_and_biases


class Recorder:
    """Stands in for accelerate, which would need the package wandb."""

    def __init__(self, *, is_main_process: bool = True) -> None:
        self.is_main_process = is_main_process
        self.log_with: list[object] = []
        self.options: dict[str, Any] = {}
        self.logged: list[tuple[dict[str, float], int]] = []

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
    send = weights_and_biases.start(accelerator, "knees", {}, run_dir)
    send({"loss": 1.0}, 7)
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
