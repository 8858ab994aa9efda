"""Several processes at once: all build the same index, or divide uneven shards among them without gaps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from quell.configs.support.paths import ROOT
from quell.shards.building.writer import write_split

BUILD = """
import sys
from quell.shards.reading.shard_set import ShardSet
shards = ShardSet.open(sys.argv[1])
print(len(shards), sum(int(shards.read(i, "x")[0, 0]) for i in range(len(shards))))
"""
RANK = """
import json, sys
import torch.distributed as dist
from quell.configs.fields import Source
from quell.launch import cli
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder, samples_of_rank
from quell.shards.reading.recipe import Recipe
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 2
shards = ShardSet.open(sys.argv[1])
recipe, plan = Recipe({"x": Source()}), SampleOrder(len(shards), 4, 1, rank, world)
trained, measured = [], []
with Loader(shards, plan, recipe, steps=plan.steps(2)) as loader:
    for (batch,) in loader:
        dist.all_reduce(batch["x"].mean())
        trained += batch["index"].tolist()
with EvalLoader(shards, samples_of_rank(len(shards), rank, world), recipe, 2) as loader:
    for batch in loader:
        measured += batch["index"].tolist()
per_rank = [None, None]
dist.all_gather_object(per_rank, (trained, measured))
if rank == 0:
    open(sys.argv[2], "w").write(json.dumps(per_rank))
dist.destroy_process_group()
cli.leave(0)
"""


def uneven(path: Path, count: int = 13) -> None:
    """Shards of one, two and many samples."""
    write_split(
        path,
        [{"__key__": f"k{i}", "x.npy": np.full((16, 16), i, np.float32)} for i in range(count)],
        name="u",
        meta={},
        max_size_mb=0.0025,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_processes_may_build_the_same_index_at_once(tmp_path: Path) -> None:
    uneven(tmp_path / "d")
    for name in ("index.json", "index.npy"):
        (tmp_path / "d" / name).unlink()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD, str(tmp_path / "d")],
            stdout=subprocess.PIPE,
            text=True,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=200) for process in running]
    assert [out.split() for out, _ in outputs] == [["13", str(sum(range(13)))]] * 4, outputs
    assert not list((tmp_path / "d").glob("*.tmp"))


def test_two_ranks_over_uneven_shards_see_every_sample_once_and_end(torchrun, tmp_path: Path) -> None:
    uneven(tmp_path / "d")
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    torchrun([script, tmp_path / "d", tmp_path / "per_rank.json"])
    (first, first_eval), (second, second_eval) = json.loads((tmp_path / "per_rank.json").read_text())
    assert len(first) == len(second) == 14
    stream = [index for at in range(0, 14, 2) for index in (*first[at : at + 2], *second[at : at + 2])]
    assert sorted(stream[:13]) == sorted(stream[13:26]) == list(range(13))
    assert sorted(first_eval + second_eval) == list(range(13))
