"""Between two logging intervals the training thread asks no tensor for its value: on a GPU each time it would wait."""

import threading
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.support import common
from launch.training import loop, run

ASKING = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "cpu", "numpy", "nonzero", "__array__")


class Asked:
    """Counts how often tensors are asked for their values by this thread, while `counting`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counting, self.counts, self.thread = False, Counter(), threading.get_ident()
        for name in ASKING:
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name: str, method):
        def wrapper(tensor, *arguments, **options):
            if self.counting and threading.get_ident() == self.thread:
                self.counts[name] += 1
            return method(tensor, *arguments, **options)

        return wrapper


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small shards for each method."""
    base = tmp_path_factory.mktemp("shards")
    return {name: common.write_shards(base / name, side=48, **common.image_kind(name)) for name in common.SMALL}


@pytest.mark.parametrize("name", common.SMALL)
def test_no_step_asks_the_device(name: str, roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    step_of = loop.train_step

    def counted(phases, pipeline, step, *arguments):
        asked.counting = step in (1, 2)  # eight samples: the epoch ends, and is summed up, with step 3
        return step_of(phases, pipeline, step, *arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    config = common.load_config(
        name,
        roots[name],
        *common.SMALL[name],
        "data.crop=32",
        "data.batch_size=2",
        "loop.epochs=null",
        "loop.max_steps=5",
        "loop.ema_decay=0.9",
        "loop.accumulate=1",
        "tracking.log_every=100",
        "evaluation.every_epochs=null",
        "checkpoint.every_steps=100",
        "evaluation.limit=1",
        "loop.channels_last=false",
    )
    assert run.train(config, tmp_path / "run") == 0
    assert not asked.counts
