"""A run keeps the version of the random draws that it began with; new runs have the present one."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from quell.configs.fields import DRAWS
from quell.configs.support.json_files import read_json
from quell.launch import train
from quell.launch.checkpoints import integrity, store
from quell.launch.inference import trained_model
from tests.support.runs import checkpoint_of
from tests.support.small_runs import single_error

GAUSSIAN = {"sigma": 0.1, "noise": "white"}
GAMMA = {"noise": "gamma", "looks": 4.0}


class Runs:
    """Trains Recorrupted-to-Recorrupted, which draws at every step, in folders of its own."""

    def __init__(self, mini: Path, folder: Path, noise: dict[str, object]) -> None:
        self.folder, self.config = folder, folder / "r2r.yaml"
        network = {"name": "dncnn", "depth": 3, "width": 4, "norm": "none"}
        content = {
            "pipeline": {"name": "r2r", "network": network, "passes": 2, **noise},
            "data": {"root": str(mini), "batch_size": 4, "crop": 16, "representation": "magnitude"},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "loop": {"epochs": None, "max_steps": 2, "threads": 1, "precision": "no"},
            "evaluation": {"every_epochs": None, "limit": 1},
            "tracking": {"tensorboard": False},
        }
        content["data"]["fields"] = {"noisy": "pd", "clean": "pd_clean"}  # type: ignore[index]
        self.config.write_text(yaml.safe_dump(content))

    def train(self, name: str, steps: int, *overrides: str) -> int:
        """Train or continue the run of this name up to a number of steps; the exit code."""
        words = ["--config", str(self.config), f"loop.max_steps={steps}", *overrides]
        return train.main([*words, "--run-dir", str(self.folder / name)])

    def copy(self, name: str, other: str, step: int, **changes: object) -> None:
        """Copy a run, with these values in the meta.json of its checkpoint; None removes one."""
        shutil.copytree(self.folder / name, self.folder / other)
        path = checkpoint_of(self.folder / other, step) / "meta.json"
        meta = {name: value for name, value in {**read_json(path), **changes}.items() if value is not None}
        path.write_text(integrity.to_json({name: value for name, value in meta.items() if name != "checksum"}))

    def weights(self, name: str, step: int) -> torch.Tensor:
        """The weights of a checkpoint, in one vector."""
        return torch.cat([value.flatten() for value in self.read(name, step).values()])

    def read(self, name: str, step: int) -> dict[str, torch.Tensor]:
        """The tensors of a checkpoint."""
        return store.read_weights(checkpoint_of(self.folder / name, step))

    def draws(self, name: str, step: int) -> object:
        """What the checkpoint records."""
        return store.read_meta(checkpoint_of(self.folder / name, step)).get("draws")


@pytest.mark.parametrize("noise", [GAUSSIAN, GAMMA], ids=["gaussian", "gamma"])
def test_a_run_keeps_its_draws(mini: Path, tmp_path: Path, noise: dict[str, object]) -> None:
    runs = Runs(mini, tmp_path, noise)
    assert runs.train("new", 2) == 0 and runs.draws("new", 2) == DRAWS == 2
    runs.copy("new", "older", 2, draws=None)
    assert runs.train("straight", 4) == runs.train("new", 4) == runs.train("older", 4) == 0
    assert torch.equal(runs.weights("new", 4), runs.weights("straight", 4))
    assert (runs.draws("new", 4), runs.draws("older", 4)) == (2, 1)
    assert not torch.equal(runs.weights("older", 4), runs.weights("new", 4))
    assert runs.train("older", 5) == 0 and runs.draws("older", 5) == 1
    loaded = [trained_model.load(tmp_path / name, which="last").pipeline.draws for name in ("new", "older")]
    assert loaded == [2, 1]


@pytest.mark.parametrize("noise", [GAUSSIAN, GAMMA], ids=["gaussian", "gamma"])
def test_draws_do_not_depend_on_the_division_into_micro_batches(
    mini: Path, tmp_path: Path, noise: dict[str, object]
) -> None:
    runs = Runs(mini, tmp_path, noise)
    assert runs.train("whole", 3) == runs.train("parts", 3, "loop.accumulate=4") == 0
    torch.testing.assert_close(runs.weights("parts", 3), runs.weights("whole", 3), rtol=1e-4, atol=1e-6)


def test_a_warm_start_from_an_older_run_has_the_present_draws(mini: Path, tmp_path: Path) -> None:
    runs = Runs(mini, tmp_path, GAUSSIAN)
    assert runs.train("first", 2) == 0
    runs.copy("first", "older", 2, draws=None)
    assert runs.train("warm", 1, f"init_from.run={tmp_path / 'older'}") == 0
    assert runs.draws("warm", 1) == DRAWS


def test_draws_of_a_later_version_are_refused(mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs(mini, tmp_path, GAUSSIAN)
    assert runs.train("first", 1) == 0
    runs.copy("first", "later", 1, draws=DRAWS + 1)
    capsys.readouterr()
    assert runs.train("later", 2) != 0
    captured = capsys.readouterr()
    assert f"random draws of version {DRAWS + 1}, expected 1 to {DRAWS}" in single_error(captured.out + captured.err)
