"""The failures of the dual-domain recipes occur on the phantom and are reported; the recommended config has none.

The runs use shipped configurations, reduced to seconds by the settings below.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from quell.configs.support.json_files import Record
from quell.launch import train
from quell.shards import build
from tests.support.runs import read_summary

SHORT = (
    "data.crop=32",
    "data.batch_size=4",
    "loop.epochs=null",
    "loop.threads=1",
    "loop.precision=no",
    "evaluation.every_epochs=null",
    "evaluation.every_steps=null",
    "checkpoint.every_steps=1000",
    "tracking.tensorboard=false",
)
NARROW = (
    "pipeline.encoder_features=[8,16,32]",
    "pipeline.decoder_features=[32,16,8]",
    "pipeline.latent_channels=32",
    "optimizer.lr=1.5e-3",
    "schedule.name=constant",
    "loop.max_steps=100",
)
RESTORER = (
    "pipeline.sigma=0.1",
    "pipeline.network={name: residual_unet, widths: [16, 32], blocks: [1, 1]}",
    "data.batch_size=8",
    "optimizer.lr=6e-3",
    "schedule.warmup_steps=20",
    "loop.ema_decay=0.97",
    "loop.max_steps=150",
)

Train = Callable[..., Record]

pytestmark = [pytest.mark.xdist_group("mechanisms"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training and 2 validation pairs of complex 96 px images with noise of sigma 0.1 per component."""
    root = tmp_path_factory.mktemp("phantom")
    counts = ["--train", "48", "--val", "2", "--test", "1"]
    assert build.main(["phantom", "--output", str(root), "--size", "96", "--sigma", "0.1", *counts]) == 0
    return root


@pytest.fixture
def trained(phantom: Path, root: Path, tmp_path: Path) -> Train:
    """Train a shipped configuration: `trained("config name", "a.b=c", ...)` returns the summary of the run."""

    def run(config: str, *overrides: str) -> Record:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        file = root / "configs" / f"{config}.yaml"
        words = ["--config", str(file), "--run-dir", str(folder), *SHORT, *overrides, f"data.root={phantom}"]
        assert train.main(words) == 0
        return read_summary(folder)

    return run


def test_content_weight_one_collapses_the_latent_and_is_reported_as_a_collapse(trained: Train) -> None:
    with_content = trained("no_skip_everywhere", *NARROW)
    without = trained("no_skip_everywhere", *NARROW, "pipeline.weights.content=0")
    assert "collapse" in with_content["warnings"]
    assert "collapse" not in without["warnings"]
    assert with_content["metrics"]["latent_spread"] < 0.1 * without["metrics"]["latent_spread"]


def test_target_skips_copy_the_noise_of_the_target_and_are_reported_as_a_leak(trained: Train) -> None:
    longer = (*NARROW, "optimizer.lr=3e-3", "loop.max_steps=150")
    with_skips, without = (trained(name, *longer) for name in ("cross_target_skip", "cross_no_skip"))
    assert {"leak", "leak_target"} <= set(with_skips["warnings"])
    assert not {"leak", "leak_target"} & set(without["warnings"])
    assert with_skips["metrics"]["cross_over_floor"] < 1 < without["metrics"]["cross_over_floor"]


def test_the_recommended_config_denoises_without_leak_or_collapse(trained: Train) -> None:
    run = trained("cross_guided", *RESTORER)
    assert run["warnings"] == {}
    assert run["metrics"]["psnr"] > run["metrics"]["noisy_psnr"] + 8
    assert abs(run["metrics"]["leak_other"]) < 0.05
