"""An evaluation that fails costs nothing that was learned: not here, and not on the ranks beside it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import ConfigError, DataError
from launch.evaluation import evaluator
from tests.support.small_runs import TrainSmall, single_error

NONE_BESIDES = ("evaluation.every_epochs=null", "checkpoint.every_steps=1000")


@pytest.fixture
def rotten(mini: Path, tmp_path: Path) -> Path:
    """The mini shards with a flipped byte in the last image that is validated."""
    root = tmp_path / "rotten"
    shutil.copytree(mini, root)
    for file in (root / "val").glob("*.tar"):
        content = bytearray(file.read_bytes())
        content[content.rindex(b"NUMPY") + 500] ^= 0xFF
        file.write_bytes(content)
    return root


@pytest.mark.parametrize("fails_at", [2, 4], ids=["on the way", "at the end"])
def test_what_was_learned_is_saved_and_goes_on_when_the_data_are_mended(
    train_small: TrainSmall, mini: Path, rotten: Path, fails_at: int, tmp_path: Path
) -> None:
    every = f"evaluation.every_steps={fails_at}"
    code, output = train_small(*NONE_BESIDES, every, f"data.root={rotten}")
    assert code == 4 and str(rotten / "val") in single_error(output)
    saved = tmp_path / "run" / "checkpoints" / f"step-{fails_at:08}"
    assert json.loads((saved / "meta.json").read_text())["metrics"] == {}

    shutil.rmtree(rotten)
    shutil.copytree(mini, rotten)
    assert train_small(*NONE_BESIDES, every, f"data.root={rotten}")[0] == 0
    assert train_small(*NONE_BESIDES, every, run_dir=tmp_path / "undisturbed")[0] == 0
    runs = [tmp_path / name for name in ("run", "undisturbed")]
    one, other = (load_file(run / "checkpoints" / "step-00000004" / "weights.safetensors") for run in runs)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    means = [json.loads((run / "summary.json").read_text())["metrics"] for run in runs]
    assert means[0] == means[1] and "psnr" in means[0]


def rows(*indices: int) -> evaluator.Rows:
    return [evaluator.ImageRow(index, key=f"sample{index}") for index in indices]


def test_a_problem_of_one_rank_is_raised_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def gathered(parts: list, mine: object) -> None:
        parts[:] = [mine, ([], "the image of rank 1 is rotten")]

    def refused() -> evaluator.Rows:
        raise ConfigError("rank 0 has a problem of its own")

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    with pytest.raises(DataError, match="the image of rank 1 is rotten"):
        evaluator.gather_rows(lambda: rows(0), 2)
    with pytest.raises(ConfigError, match="of its own"):
        evaluator.gather_rows(refused, 2)


def test_rows_come_in_the_order_of_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def gathered(parts: list, mine: tuple) -> None:
        parts[:] = [(rows(1, 3), ""), mine]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    assert evaluator.gather_rows(lambda: rows(0, 2), 2) == rows(0, 1, 2, 3)
    assert evaluator.gather_rows(lambda: rows(0), 1) == rows(0)
