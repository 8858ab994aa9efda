"""A short run on noisy images, its evaluation, and the folder that it is shared in."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from quell.configs import loader
from quell.launch import evaluate
from quell.launch.sharing.writing.hub_folder import write_hub_folder
from quell.launch.training import run
from quell.shards.building.writer import write_split

SIGMA = 0.1


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder, with report.json, of two R2R steps on grey images of 96 px with noise of 0.1."""
    folder, random = tmp_path_factory.mktemp("shared"), np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        samples = []
        for number in range(count):
            clean = 0.5 + 2 * gaussian_filter(random.normal(size=(96, 96)), 8)
            noisy = clean + SIGMA * random.normal(size=clean.shape)
            arrays = {"noisy.npy": noisy.astype(np.float32), "clean.npy": clean.astype(np.float32)}
            samples.append({"__key__": f"{split}{number}", **arrays})
        meta = {"data_range": 1.0, "source": "test", "licence": "CC-BY-4.0", "folder": str(folder)}
        write_split(folder / "data" / split, samples, name="shared", meta=meta)
    config = loader.structure(
        {
            "name": "small",
            "pipeline": {"name": "r2r", "network": {"name": "dncnn", "depth": 3, "width": 4}, "sigma": "estimate"},
            "data": {"root": str(folder / "data"), "crop": 32, "normalise": "none", "batch_size": 2},
            "loop": {"max_steps": 2, "ema_decay": 0.9, "threads": 1},
            "tracking": {"tensorboard": False},
        }
    )
    assert run.train(config, folder / "run") == 0
    assert evaluate.main(["--run", str(folder / "run"), "--baseline", "noisy", "--pictures", "0", "--quiet"]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def shared(evaluated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it is shared in."""
    folder = tmp_path_factory.mktemp("hub") / "small"
    write_hub_folder(evaluated_run, folder)
    return folder


@pytest.fixture(scope="session")
def noisy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with the noise that the run was trained on."""
    random = np.random.default_rng(7)
    clean = 0.5 + 2 * gaussian_filter(random.normal(size=(96, 96)), 8)
    file = tmp_path_factory.mktemp("images") / "noisy.npy"
    np.save(file, (clean + SIGMA * random.normal(size=clean.shape)).astype(np.float32))
    return file
