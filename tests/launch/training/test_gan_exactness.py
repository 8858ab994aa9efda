"""Adversarial methods resume exactly, with both optimizers, image pools and random draws of every rank."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.pairs import write_pairs
from tests.support.runs import checkpoint_of, read_weights
from tests.support.train_each import Job, WorkerPair, train_each, training_output

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
"""Overrides of a shipped file: steps of milliseconds, with every mechanism active within eight of them."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of small noisy and clean images."""
    return write_pairs(tmp_path_factory.mktemp("scans"), cells=(5, 6), cell_px=8)


@pytest.mark.xdist_group("pair")
@pytest.mark.parametrize(("method", "processes"), [("tcfl", 2), ("drgan", 1)])
def test_a_run_resumed_at_step_four_equals_eight_uninterrupted_steps(
    method: str, processes: int, scans: Path, worker_pair: WorkerPair, tmp_path: Path
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    words = ["--config", f"configs/{method}.yaml", *COMMON, *SMALL[method], f"data.root={scans}"]
    jobs = [Job(words, uninterrupted), Job(words, resumed, first_steps_of=(uninterrupted, 4))]
    train_each(jobs, worker_pair if processes > 1 else None)
    assert training_output(uninterrupted, processes) and "at step 4 of 8" in training_output(resumed, processes)
    files = sorted(path.name for path in checkpoint_of(uninterrupted, 8).iterdir())
    assert [name for name in files if name.startswith("rank-")] == [f"rank-{rank}.pt" for rank in range(processes)]
    for name in files:
        expected, actual = (content(checkpoint_of(run, 8) / name) for run in (uninterrupted, resumed))
        if name != "meta.json":
            assert equal(actual, expected), name
    start, end = read_weights(uninterrupted, 4), read_weights(uninterrupted, 8)
    networks = {name.split(".")[0] for name in end}
    assert {name.split(".")[0] for name in end if not torch.equal(start[name], end[name])} == networks
    pools = content(checkpoint_of(uninterrupted, 8) / "rank-0.pt")["pipeline"]["pools"]
    assert all(len(pool["images"]) == 2 for pool in pools.values())


def content(path: Path) -> Any:
    """The content of a file of a checkpoint."""
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, weights_only=True) if path.suffix == ".pt" else json.loads(path.read_text(encoding="utf-8"))


def equal(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
