"""Every YAML in configs/ loads, round-trips through a dump, and trains two steps in one process and in two.

The files are listed from the folder, without exceptions. Settings are made smaller by their names, alike in all files.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from configs import loader, registry
from configs.errors import QuellError
from configs.schema import RunConfig
from configs.support.paths import ROOT
from launch.training.build import make_pipeline
from shards.building.writer import write_split
from shards.reading.shard_set import ShardSet
from tests.support.runs import checkpoint_of, read_events, read_summary
from tests.support.train_each import Job, WorkerPair, train_each, training_output

CONFIGS = {path.stem: path for path in sorted((ROOT / "configs").glob("*.yaml"))}

RANDOM = {"weights": None, "random_trunk": True}
SMALL_PIPELINE = {"scales": 1, "passes": 2, "adapt_steps": 2, "vgg": RANDOM, "vgg16": {**RANDOM, "size_px": 16}}
"""Settings of a method to replace at any depth; five scales of MS-SSIM need 160 px, and pre-trained weights a file."""
KINDS = ("complex64", "float32", "uint8")
"""Data types of images, uint8 being RGB; a configuration trains on the first that its method accepts."""
COUNTS = {"train": 9, "val": 3}
"""Samples in each split; two processes cannot share three evenly."""
SHAPE = (32, 36)
CROP, CROP_WITH_CRITIC = 24, 32
"""In pixels; below 32, a critic's last feature maps would be empty."""
PROCESSES = [
    pytest.param(1, id="1proc", marks=pytest.mark.xdist_group("every_config")),
    pytest.param(2, id="2proc", marks=pytest.mark.xdist_group("pair")),
]
TIMEOUT_S = 1200


def members(config: RunConfig) -> set[str]:
    """Names of the shard members that a configuration may read."""
    cls: Any = registry.find("pipelines", config.pipeline.name)
    return set(cls.needs(config.pipeline).members(config.data.fields).values())


def image(name: str, sample: int, kind: str) -> np.ndarray:
    """A smooth image of the sample, with independent noise in every member that is not clean."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = 0.5 + 0.3 * np.sin(x / 7 + sample) * np.cos(y / 5 - sample)
    random = np.random.default_rng([sample, *name.encode()])
    sigma = 0.0 if "clean" in name else 0.05
    shape = (*SHAPE, 3) if kind == "uint8" else SHAPE
    noisy = (smooth[..., None] if kind == "uint8" else smooth) + sigma * random.standard_normal(shape)
    if kind == "uint8":
        return (255 * noisy.clip(0, 1)).astype(np.uint8)
    imaginary = 1j * sigma * random.standard_normal(shape) if kind == "complex64" else 0
    return (noisy + imaginary).astype(kind)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Shards of every kind, with all members that any configuration reads."""
    names = sorted(set().union(*(members(loader.load(path)) for path in CONFIGS.values())))
    root = tmp_path_factory.mktemp("shards")
    for kind in KINDS:
        for split, count in COUNTS.items():
            samples = [{"__key__": f"s{i}", **{f"{n}.npy": image(n, i, kind) for n in names}} for i in range(count)]
            write_split(root / kind / split, samples, name="tiny", meta={"data_range": 1.0})
    return {kind: root / kind for kind in KINDS}


def replace_settings(value: Any) -> Any:
    """A method's settings with those of SMALL_PIPELINE in place of its own."""
    if isinstance(value, dict):
        given = {key: inner for key, inner in value.items() if inner is not None}
        return value | {key: SMALL_PIPELINE.get(key, replace_settings(inner)) for key, inner in given.items()}
    return [replace_settings(inner) for inner in value] if isinstance(value, list) else value


def small(path: Path, roots: dict[str, Path], runs: Path) -> RunConfig:
    """Two steps of a shipped file, on the tiny shards of the first kind that its method accepts."""
    settings = loader.load(path).model_dump(mode="json")
    accumulate = min(settings["loop"]["accumulate"], 2)
    settings["pipeline"] = replace_settings(settings["pipeline"])
    crop = CROP_WITH_CRITIC if "critic" in settings["pipeline"] else CROP
    settings["data"] |= {"crop": crop, "batch_size": 2 * accumulate, "limit": None}
    settings["loop"] |= {"epochs": 4, "max_steps": 2, "accumulate": accumulate, "precision": "no", "threads": 1}
    settings["tracking"] |= {"log_every": 1, "wandb_project": None}
    if settings["init_from"]:
        settings["init_from"]["run"] = str(runs / Path(settings["init_from"]["run"]).name)
    refused = []
    for kind, root in roots.items():
        settings["data"]["root"] = str(root)
        config = loader.structure(settings, source=path.name)
        try:
            make_pipeline(config, ShardSet.open(root / config.data.train_split))
            return config
        except QuellError as error:
            refused.append(f"{kind}: {error}")
    pytest.fail(f"{path.name} accepts no kind of images: " + "; ".join(refused))


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
