"""Fixtures of the tests of launch/: small paired shards, and short trainings on them."""

from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.schema import RunConfig
from quell.launch import train
from tests.support.small_runs import SMALL_CONFIG, SmallRun, TrainSmall, write_mini


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 26 train, 5 val and 3 test complex PD / PDFS pairs with their clean images; noise sigma 0.1."""
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def small_run(mini: Path, root: Path) -> SmallRun:
    """Configure a small dual-domain run on the mini shards: `small_run("a.b=c", ...) -> RunConfig`."""

    def load(*overrides: str) -> RunConfig:
        return loader.load(root / SMALL_CONFIG, [f"data.root={mini}", *overrides])

    return load


@pytest.fixture
def train_small(mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> TrainSmall:
    """Train a small run for four steps in this process: `train_small("a.b=c", ...) -> (exit code, output)`."""

    def run(*overrides: str, run_dir: Path | None = None, options: tuple[str, ...] = ()) -> tuple[int, str]:
        words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=4", *overrides]
        code = train.main([*words, "--run-dir", str(run_dir or tmp_path / "run"), *options])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run
