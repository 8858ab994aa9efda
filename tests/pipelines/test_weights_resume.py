"""Learned and drawn loss weights go on exactly after a restart, are equal on all ranks, and change with training."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.pairs import write_pairs
from tests.support.train_each import Item, Pair, said, train_each

OVERRIDES = [
    "pipeline.network={name: dncnn, depth: 3, width: 4, norm: none, bias: true}",
    "pipeline.losses={charbonnier: 1.0, laplacian: 1.0, msssim: {scales: 1}}", "data.crop=16", "data.batch_size=4",
    "loop.epochs=null", "loop.max_steps=8", "loop.threads=1", "checkpoint.every_steps=4", "checkpoint.keep_last=5",
    "evaluation.every_epochs=null", "tracking.tensorboard=false", "tracking.log_every=1",
]  # fmt: skip
CHANGING = {"uncertainty": "weighting.log_variance", "random_softmax": None}
"""Strategy -> the tensor that is trained; one drawn once stays."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of small noisy and clean images."""
    return write_pairs(tmp_path_factory.mktemp("photographs"), cells=(4, 5), cell_px=6)


@pytest.fixture(scope="module")
def runs(photographs: Path, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each strategy `NAME-straight`, and `NAME-resumed` from its fourth step, by two processes."""
    folder, items = tmp_path_factory.mktemp("weights"), []
    for name in CHANGING:
        words = [
            "--config",
            "configs/spectroformer.yaml",
            *OVERRIDES,
            f"data.root={photographs}",
            f"pipeline.weighting={name}",
        ]
        straight = folder / f"{name}-straight"
        resumed = Item(words, folder / f"{name}-resumed", first_steps_of=(straight, 4), compare=True)
        items += [Item(words, straight), resumed]
    train_each(items, pair)
    return folder


@pytest.mark.xdist_group("pair")
@pytest.mark.parametrize("strategy", CHANGING)
def test_weights_of_losses_resume_exactly_on_two_ranks(strategy: str, runs: Path) -> None:
    straight, resumed = runs / f"{strategy}-straight", runs / f"{strategy}-resumed"
    assert said(straight, processes=2) and "at step 4 of 8" in said(resumed, processes=2)
    ranks = [load_file(resumed / f"learned-{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    start, end, again = (
        load_file(run / "checkpoints" / f"step-0000000{step}" / "weights.safetensors")
        for run, step in ((straight, 4), (straight, 8), (resumed, 8))
    )
    assert end.keys() == again.keys() and all(torch.equal(end[name], again[name]) for name in end)
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert {name for name in changed if name.startswith("weighting")} == {CHANGING[strategy]} - {None}

    events = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "train"]
    weights = [[step[f"weight_{name}"] for name in ("charbonnier", "laplacian", "msssim")] for step in steps]
    assert (weights[0] != weights[-1]) == (CHANGING[strategy] is not None)
    if strategy != "uncertainty":
        assert all(sum(row) == pytest.approx(1) for row in weights)
