"""When an evaluation fails, the trained weights are saved, and every rank reports the reason."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from quell.configs.errors import ConfigError, DataError
from quell.launch.evaluation import evaluator
from tests.support.runs import checkpoint_of, read_summary, read_weights, same_bits
from tests.support.small_runs import TrainSmall, single_error

NO_OTHER_EVENTS = ("evaluation.every_epochs=null", "checkpoint.every_steps=1000")


@pytest.fixture
def corrupted(mini: Path, tmp_path: Path) -> Path:
    """The mini shards with one flipped byte in the last validation image."""
    root = tmp_path / "corrupted"
    shutil.copytree(mini, root)
    for file in (root / "val").glob("*.tar"):
        content = bytearray(file.read_bytes())
        content[content.rindex(b"NUMPY") + 500] ^= 0xFF
        file.write_bytes(content)
    return root


@pytest.mark.parametrize("fails_at", [2, 4], ids=["during training", "after the last step"])
def test_the_weights_are_saved_and_training_resumes_once_the_data_are_repaired(
    train_small: TrainSmall, mini: Path, corrupted: Path, fails_at: int, tmp_path: Path
) -> None:
    every = f"evaluation.every_steps={fails_at}"
    code, output = train_small(*NO_OTHER_EVENTS, every, f"data.root={corrupted}")
    assert code == 4 and str(corrupted / "val") in single_error(output)
    meta_file = checkpoint_of(tmp_path / "run", fails_at) / "meta.json"
    assert json.loads(meta_file.read_text())["metrics"] == {}

    shutil.rmtree(corrupted)
    shutil.copytree(mini, corrupted)
    assert train_small(*NO_OTHER_EVENTS, every, f"data.root={corrupted}")[0] == 0
    assert train_small(*NO_OTHER_EVENTS, every, run_dir=tmp_path / "uninterrupted")[0] == 0
    runs = [tmp_path / name for name in ("run", "uninterrupted")]
    assert same_bits(*(read_weights(run, 4) for run in runs))
    means = [read_summary(run)["metrics"] for run in runs]
    assert means[0] == means[1] and "psnr" in means[0]


def rows(*indices: int) -> evaluator.Rows:
    return [evaluator.ImageRow(index, key=f"sample{index}") for index in indices]


def test_an_error_of_one_rank_is_raised_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather(parts: list[object], own: object) -> None:
        parts[:] = [own, ([], DataError("rank 1: the image is corrupted"))]

    def fail() -> evaluator.Rows:
        raise ConfigError("rank 0: another problem")

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    with pytest.raises(DataError, match="rank 1: the image is corrupted"):
        evaluator.gather_rows(lambda: rows(0), 2)
    with pytest.raises(ConfigError, match="another problem"):
        evaluator.gather_rows(fail, 2)


def test_rows_are_sorted_by_their_index_in_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_gather(parts: list[object], own: object) -> None:
        parts[:] = [(rows(1, 3), None), own]

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    assert evaluator.gather_rows(lambda: rows(0, 2), 2) == rows(0, 1, 2, 3)
    assert evaluator.gather_rows(lambda: rows(0), 1) == rows(0)
