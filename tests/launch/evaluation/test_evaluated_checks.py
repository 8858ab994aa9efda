"""An evaluation's report says when the restored images fail a check that needs no clean image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quell.configs import loader
from quell.configs.support.json_files import Record
from quell.launch import evaluate
from quell.launch.training import run
from quell.pipelines.base import Batch
from quell.pipelines.supervised import Supervised
from quell.shards.building.writer import write_split

SIGMA, SIZE = 0.1, 96


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supervised run of one step, on images of a disk with white noise."""
    folder, random = tmp_path_factory.mktemp("checked"), np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    clean = 0.4 + 0.4 * ((y - 40) ** 2 + (x - 50) ** 2 < 20**2)
    for split in ("train", "val", "test"):
        samples = []
        for i in range(6):
            images = {"noisy": clean + SIGMA * random.standard_normal(clean.shape), "clean": clean}
            members = {f"{name}.npy": image.astype(np.float32) for name, image in images.items()}
            samples.append({"__key__": f"s{i}", **members})
        write_split(folder / "data" / split, samples, name="disk", meta={"data_range": 1.0})
    config = {
        "name": "checked",
        "pipeline": {"name": "supervised", "network": {"name": "dncnn", "depth": 3, "width": 4}},
        "data": {"root": str(folder / "data"), "crop": 32, "batch_size": 2},
        "loop": {"max_steps": 1, "threads": 1},
        "evaluation": {"every_epochs": None},
        "tracking": {"tensorboard": False},
    }
    assert run.train(loader.structure(config), folder / "run") == 0
    return folder / "run"


def evaluated(run_folder: Path) -> tuple[Record, str]:
    """The content of report.json, and report.md."""
    words = ["--run", str(run_folder), "--pictures", "0", "--baseline", "gaussian", "--metrics", "psnr"]
    assert evaluate.main(words) == 0
    return json.loads((run_folder / "report.json").read_text()), (run_folder / "report.md").read_text()


def restores(monkeypatch: pytest.MonkeyPatch, field: str, added: float = 0.0) -> None:
    """Let the method return a field of the batch as the restored image."""

    def restore(_: Supervised, batch: Batch) -> dict[str, torch.Tensor]:
        return {"restored": batch[field] + added}

    monkeypatch.setattr(Supervised, "restore", restore)


def test_a_restoration_that_does_nothing_is_said_to_leave_the_noise(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restores(monkeypatch, "noisy")
    content, text = evaluated(trained)
    assert content["means"]["restored/residual_missing"] == pytest.approx(1)
    assert all("restored/residual_missing" in row for row in content["rows"])
    assert "The restored images fail a check without clean images (residual_missing): 1.00 of the noise's power" in text
    assert text.count("fail a check") == 1
    assert content["table"][-1].keys() == {"image", "method", "PSNR (dB)"}, "checks get no column"


def test_a_good_restoration_has_values_and_no_sentence(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restores(monkeypatch, "clean", added=1e-3)
    content, text = evaluated(trained)
    assert 0.9 < content["means"]["restored/residual_removed"] < 1.1
    assert content["means"]["restored/psnr"] > 50
    assert "fail a check" not in text


def test_runs_without_blind_checks_are_evaluated_without_and_other_values_are_the_same(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_checks, _ = evaluated(trained)
    config = trained / "config.yaml"
    before = config.read_text()
    assert "blind_checks: true" in before
    config.write_text(before.replace("blind_checks: true", "blind_checks: false"))
    try:
        without, text = evaluated(trained)
    finally:
        config.write_text(before)
    assert "fail a check" not in text and not any("residual" in name for name in without["means"])
    kept = {name: value for name, value in with_checks["means"].items() if "residual" not in name}
    assert without["means"] == kept and without["table"] == with_checks["table"]
