"""Training steps read no tensor values between two logged steps: on a GPU every read would wait for the device."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.support import common
from quell.launch.data import finishing
from quell.launch.training import loop, run
from quell.launch.training.phases import Phase
from quell.pipelines.base import Pipeline
from quell.pipelines.common.random_numbers import normals

READING_METHODS = (
    "item",
    "tolist",
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "cpu",
    "numpy",
    "nonzero",
    "__array__",
)


class ReadCounter:
    """Counts, while `counting`, how often this thread reads the values of a tensor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counting = False
        self.counts: Counter[str] = Counter()
        self.thread = threading.get_ident()
        for name in READING_METHODS:
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
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
def test_a_step_reads_no_tensor_values(
    name: str, roots: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = ReadCounter(monkeypatch)
    train_step = loop.train_step

    def counted_step(phases: list[Phase], pipeline: Pipeline, step: int, *arguments: Any) -> Any:
        reads.counting = step in (1, 2)  # step 3 ends the epoch of eight samples and reads its means
        return train_step(phases, pipeline, step, *arguments)

    monkeypatch.setattr(loop, "train_step", counted_step)
    for module, choice in ((finishing, "works_image_by_image"), (normals, "fills_in_parts")):
        monkeypatch.setattr(module, choice, lambda device: False)  # batches are finished as on a GPU
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
    assert not reads.counts
