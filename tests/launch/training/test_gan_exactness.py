"""Methods with critics stop and go on exactly: both optimizers, image pools and their draws, on every rank."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.pairs import write_pairs
from tests.support.train_each import Item, Pair, said, train_each

COMMON = [
    "data.crop=32", "data.batch_size=4", "data.normalise=none", "loop.epochs=null", "loop.max_steps=8",
    "loop.threads=1", "checkpoint.every_steps=4", "checkpoint.keep_last=5", "evaluation.every_epochs=null",
    "tracking.tensorboard=false", "tracking.log_every=4",
]  # fmt: skip
SMALL = {
    "tcfl": [
        "pipeline.generator.width=4", "pipeline.generator.depth=3", "pipeline.critic.width=2", "pipeline.pool_size=2",
        "pipeline.gan=wgan_gp", "pipeline.weights.critic_fake=null", "pipeline.critic_updates=2", "loop.accumulate=2",
    ],
    "drgan": [
        "pipeline.width=2", "pipeline.blocks=1", "pipeline.critic.width=2", "pipeline.pool_size=2",
        "pipeline.noise_patch_px=32", "pipeline.critic_every=2",
    ],
}  # fmt: skip
"""Overrides of a shipped file that make its steps take milliseconds, and every mechanism move within eight steps."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of small noisy and clean images."""
    return write_pairs(tmp_path_factory.mktemp("scans"), cells=(5, 6), cell_px=8)


@pytest.mark.xdist_group("pair")
@pytest.mark.parametrize(("method", "processes"), [("tcfl", 2), ("drgan", 1)])
def test_four_steps_and_four_resumed_equal_eight(
    method: str, processes: int, scans: Path, pair: Pair, tmp_path: Path
) -> None:
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    words = ["--config", f"configs/{method}.yaml", *COMMON, *SMALL[method], f"data.root={scans}"]
    items = [Item(words, straight), Item(words, resumed, first_steps_of=(straight, 4))]
    train_each(items, pair if processes > 1 else None)
    assert said(straight, processes) and "at step 4 of 8" in said(resumed, processes)
    files = sorted(path.name for path in (straight / "checkpoints" / "step-00000008").iterdir())
    assert [name for name in files if name.startswith("rank-")] == [f"rank-{rank}.pt" for rank in range(processes)]
    for name in files:
        one, other = (content(run / "checkpoints" / "step-00000008" / name) for run in (straight, resumed))
        if name != "meta.json":
            assert equal(one, other), name
    start = content(straight / "checkpoints" / "step-00000004" / "weights.safetensors")
    end = content(straight / "checkpoints" / "step-00000008" / "weights.safetensors")
    networks = {name.split(".")[0] for name in end}
    assert {name.split(".")[0] for name in end if not torch.equal(start[name], end[name])} == networks
    pools = content(straight / "checkpoints" / "step-00000008" / "rank-0.pt")["pipeline"]["pools"]
    assert all(len(pool["images"]) == 2 for pool in pools.values())


def content(path: Path) -> Any:
    """What a checkpoint's file holds."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, weights_only=True) if path.suffix == ".pt" else json.loads(path.read_text())


def equal(one: Any, other: Any) -> bool:
    """Bit for bit, at any depth."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)
