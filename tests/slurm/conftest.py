"""One real SLURM for all tests of this folder, tiny data, and the launcher as a user starts it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slurm.cluster import Cluster, install
from tests.support.slurm.launcher import Launcher, build_tiny_data


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running SLURM; the tests are skipped, with the reason, where it cannot be installed."""
    if reason := install():
        pytest.skip(reason)
    with Cluster() as running:
        yield running


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom knees of 32 x 32 pixels."""
    return build_tiny_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def launcher(tmp_path: Path, tiny_data: Path) -> Launcher:
    """The launcher without SLURM."""
    return Launcher(tmp_path, tiny_data, None)


@pytest.fixture(scope="session")
def on_slurm(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path, cluster: Cluster) -> Launcher:
    """The launcher with the tests' SLURM."""
    return Launcher(tmp_path_factory.mktemp("on_slurm"), tiny_data, cluster)
