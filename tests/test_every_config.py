"""Every YAML in configs/ loads, round-trips through a dump, and trains two steps in one process and in two.

launch/proof/small_configs.py lists the files and makes them small.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from quell.configs import loader
from quell.configs.schema import RunConfig
from quell.launch.proof.small_configs import CONFIGS, on_first_kind, small_settings, write_roots
from tests.support.runs import checkpoint_of, read_events, read_summary
from tests.support.train_each import Job, WorkerPair, train_each, training_output

PROCESSES = [
    pytest.param(1, id="1proc", marks=pytest.mark.xdist_group("every_config")),
    pytest.param(2, id="2proc", marks=pytest.mark.xdist_group("pair")),
]
TIMEOUT_S = 1200


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of every kind, with all members that any configuration reads."""
    return write_roots(tmp_path_factory.mktemp("shards"))


def small(path: Path, roots: dict[str, Path], runs: Path) -> RunConfig:
    """Two steps of a shipped file, on the tiny shards of the first kind that its method accepts."""
    return on_first_kind(small_settings(path, runs), roots, path.name)


def names_in_order() -> list[str]:
    """The names of all files, each after the file whose run it is warm-started from."""
    ordered: list[str] = []

    def add(name: str) -> None:
        start = loader.load(CONFIGS[name]).init_from
        if start is not None:
            assert Path(start.run).name in CONFIGS, f"{name}: init_from.run is not the run of a shipped file"
            add(Path(start.run).name)
        if name not in ordered:
            ordered.append(name)

    for name in CONFIGS:
        add(name)
    return ordered


@pytest.fixture(scope="module", params=PROCESSES)
def trained(request: Any, roots: dict[str, Path], tmp_path_factory: Any, worker_pair: WorkerPair) -> tuple[int, Path]:
    """The number of processes, and the folder with the runs of all files that they trained."""
    processes, runs = request.param, tmp_path_factory.mktemp(f"runs{request.param}")
    jobs = []
    for name in names_in_order():
        file = runs / f"{name}.yaml"
        file.write_text(loader.dump(small(CONFIGS[name], roots, runs)))
        jobs.append(Job(["--config", file], runs / name))
    train_each(jobs, worker_pair if processes > 1 else None)
    return processes, runs


@pytest.mark.parametrize("name", CONFIGS)
def test_a_dump_reloads_equal(name: str) -> None:
    config = loader.load(CONFIGS[name])
    assert config.name == name
    assert loader.structure(yaml.safe_load(loader.dump(config))) == config


@pytest.mark.parametrize("name", CONFIGS)
def test_the_file_starts_with_a_comment(name: str) -> None:
    assert CONFIGS[name].read_text().startswith("# ")


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", CONFIGS)
def test_trains_two_steps(name: str, trained: tuple[int, Path]) -> None:
    processes, runs = trained
    folder = runs / name
    assert training_output(folder, processes)
    (start,) = read_events(folder, "start")
    assert start["world"] == processes
    summary = read_summary(folder)
    assert (summary["status"], summary["step"]) == ("finished", 2)
    assert np.isfinite(summary["metrics"]["psnr"])
    assert (checkpoint_of(folder, 2) / "weights.safetensors").is_file()
    assert loader.load(folder / "config.yaml") == loader.load(runs / f"{name}.yaml")
