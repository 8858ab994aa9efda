"""The shipped configurations, made small, and tiny images of every kind to train them on.

Files are listed from the folder, without exceptions. Settings are made smaller by their names, alike in all files.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from quell.configs import loader, registry
from quell.configs.errors import ConfigError, QuellError
from quell.configs.schema import RunConfig
from quell.configs.support.paths import ROOT
from quell.launch.training.build import make_pipeline
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet

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


def members(config: RunConfig) -> set[str]:
    """Names of the shard members that a configuration may read."""
    cls: Any = registry.find("pipelines", config.pipeline.name)
    return set(cls.needs(config.pipeline).members(config.data.fields).values())


def image(name: str, sample: int, kind: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A smooth image of the sample, with independent noise in every member that is not clean."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 0.5 + 0.3 * np.sin(x / 7 + sample) * np.cos(y / 5 - sample)
    random = np.random.default_rng([sample, *name.encode()])
    sigma = 0.0 if "clean" in name else 0.05
    size = (*shape, 3) if kind == "uint8" else shape
    noisy = (smooth[..., None] if kind == "uint8" else smooth) + sigma * random.standard_normal(size)
    if kind == "uint8":
        return (255 * noisy.clip(0, 1)).astype(np.uint8)
    imaginary = 1j * sigma * random.standard_normal(size) if kind == "complex64" else 0
    return (noisy + imaginary).astype(kind)


def write_roots(
    root: Path,
    shape: tuple[int, int] = SHAPE,
    *,
    repeats: bool = False,
    names: Iterable[str] | None = None,
    counts: dict[str, int] = COUNTS,
) -> dict[str, Path]:
    """Write shards of every kind; data type -> root of the splits.

    Args:
        root: Folder for one folder per kind.
        shape: Height and width of the images.
        repeats: Add a second copy with other noise (`<member>_second`) of every noisy member.
        names: Members; by default all that any configuration reads.
        counts: Samples in each split.
    """
    if names is None:
        names = set().union(*(members(loader.load(path)) for path in CONFIGS.values()))
    names = sorted(names)
    if repeats:
        noisy = [name for name in names if not name.endswith(("_clean", "clean", "_second"))]
        names = sorted({*names, *(f"{name}_second" for name in noisy)})
    for kind in KINDS:
        for split, count in counts.items():
            samples = [
                {"__key__": f"s{i}", **{f"{name}.npy": image(name, i, kind, shape) for name in names}}
                for i in range(count)
            ]
            write_split(root / kind / split, samples, name="tiny", meta={"data_range": 1.0})
    return {kind: root / kind for kind in KINDS}


def replace_settings(value: Any, by: dict[str, Any] = SMALL_PIPELINE) -> Any:
    """A method's settings with others in place of its own, at any depth."""
    if isinstance(value, dict):
        given = {key: inner for key, inner in value.items() if inner is not None}
        return value | {
            key: inner if isinstance(inner, str) else by.get(key, replace_settings(inner, by))
            for key, inner in given.items()  # the `scales` of a loss are a number, those of a network a word
        }
    return [replace_settings(inner, by) for inner in value] if isinstance(value, list) else value


def small_settings(path: Path, runs: Path) -> dict[str, Any]:
    """The settings of two small steps of a shipped file, which name no shards yet."""
    settings: dict[str, Any] = loader.load(path).model_dump(mode="json")
    accumulate = min(settings["loop"]["accumulate"], 2)
    settings["pipeline"] = replace_settings(settings["pipeline"])
    crop = CROP_WITH_CRITIC if "critic" in settings["pipeline"] else CROP
    settings["data"] |= {"crop": crop, "batch_size": 2 * accumulate, "limit": None}
    settings["loop"] |= {"epochs": 4, "max_steps": 2, "accumulate": accumulate, "precision": "no", "threads": 1}
    settings["tracking"] |= {"log_every": 1, "wandb_project": None}
    if settings["init_from"]:
        settings["init_from"]["run"] = str(runs / Path(settings["init_from"]["run"]).name)
    return settings


def only_training(settings: dict[str, Any]) -> None:
    """Leave nothing but training between the steps."""
    settings["evaluation"] |= {"every_epochs": None, "every_steps": None, "blind_checks": False}
    settings["checkpoint"] |= {"every_steps": 1000}
    settings["init_from"] = None


def on_first_kind(settings: dict[str, Any], roots: dict[str, Path], source: str) -> RunConfig:
    """The configuration of these settings on the images of the first kind that its method accepts.

    Raises:
        ConfigError: It accepts none; with what it said of each.
    """
    refused = []
    for kind, root in roots.items():
        settings["data"]["root"] = str(root)
        try:
            config = loader.structure(settings, source=source)
            make_pipeline(config, ShardSet.open(root / config.data.train_split))
            return config
        except QuellError as error:
            refused.append(f"{kind}: {error}")
    raise ConfigError(f"{source} accepts no kind of images: " + "; ".join(refused))
