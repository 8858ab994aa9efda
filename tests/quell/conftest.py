"""Fixtures of the tests of the public package: small shards, and a run that the command line has trained on them."""

from pathlib import Path

import pytest

from quell.launch import train
from tests.support.small_runs import SMALL_CONFIG, write_mini


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 26 train, 5 val and 3 test complex PD / PDFS pairs with their clean images; noise sigma 0.1."""
    return write_mini(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="session")
def trained(mini: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps, trained by `quell train`."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["--config", str(root / SMALL_CONFIG), f"data.root={mini}", "loop.max_steps=4"]
    assert train.main([*words, "--run-dir", str(folder)]) == 0
    return folder
