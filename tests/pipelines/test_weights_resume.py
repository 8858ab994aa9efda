"""Learned and randomly drawn loss weights resume exactly, are equal on all ranks, and change only if trained."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.pairs import write_pairs
from tests.support.runs import read_events, read_weights, same_bits
from tests.support.train_each import Job, WorkerPair, train_each, training_output

OVERRIDES = [
    "pipeline.network={name: dncnn, depth: 3, width: 4, norm: none, bias: true}",
    "pipeline.losses={charbonnier: 1.0, laplacian: 1.0, msssim: {scales: 1}}", "data.crop=16", "data.batch_size=4",
    "loop.epochs=null", "loop.max_steps=8", "loop.threads=1", "checkpoint.every_steps=4", "checkpoint.keep_last=5",
    "evaluation.every_epochs=null", "tracking.tensorboard=false", "tracking.log_every=1",
]  # fmt: skip
CHANGING = {"uncertainty": "weighting.log_variance", "random_softmax": None}
"""Strategy -> the tensor that is trained; weights that are drawn once do not change."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of small noisy and clean images."""
    return write_pairs(tmp_path_factory.mktemp("photographs"), cells=(4, 5), cell_px=6)


@pytest.fixture(scope="module")
def runs(photographs: Path, worker_pair: WorkerPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each strategy, the runs `NAME-uninterrupted` and `NAME-resumed` (from step 4) of two processes."""
    folder, jobs = tmp_path_factory.mktemp("weights"), []
    for name in CHANGING:
        arguments = [
            "--config",
            "configs/spectroformer.yaml",
            *OVERRIDES,
            f"data.root={photographs}",
            f"pipeline.weighting={name}",
        ]
        uninterrupted = folder / f"{name}-uninterrupted"
        resumed = Job(arguments, folder / f"{name}-resumed", first_steps_of=(uninterrupted, 4), save_rank_weights=True)
        jobs += [Job(arguments, uninterrupted), resumed]
    train_each(jobs, worker_pair)
    return folder


@pytest.mark.xdist_group("pair")
@pytest.mark.parametrize("strategy", CHANGING)
def test_weights_of_losses_resume_exactly_on_two_ranks(strategy: str, runs: Path) -> None:
    uninterrupted, resumed = runs / f"{strategy}-uninterrupted", runs / f"{strategy}-resumed"
    assert training_output(uninterrupted, processes=2) and "at step 4 of 8" in training_output(resumed, processes=2)
    ranks = [load_file(resumed / f"rank-{rank}-weights.safetensors") for rank in (0, 1)]
    assert same_bits(*ranks)
    start, end = read_weights(uninterrupted, 4), read_weights(uninterrupted, 8)
    assert same_bits(read_weights(resumed, 8), end)
    changed = {name for name in end if not torch.equal(start[name], end[name])}
    assert {name for name in changed if name.startswith("weighting")} == {CHANGING[strategy]} - {None}

    steps = read_events(uninterrupted, "train")
    weights = [[step[f"weight_{name}"] for name in ("charbonnier", "laplacian", "msssim")] for step in steps]
    assert (weights[0] != weights[-1]) == (CHANGING[strategy] is not None)
    if strategy != "uncertainty":
        assert all(sum(row) == pytest.approx(1) for row in weights)
