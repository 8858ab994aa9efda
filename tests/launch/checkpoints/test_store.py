"""A checkpoint is complete or absent; retention keeps the last and the best; weights that do not fit are refused."""

from pathlib import Path

import pytest
import torch

from configs.errors import CheckpointError
from launch.checkpoints import store


def save(folder: Path, step: int) -> Path:
    hidden = store.begin(folder, step)
    store.write_weights(hidden, {"net.weight": torch.full((2, 2), float(step))}, None)
    store.write_state(hidden, "state.pt", {"step": step, "pool": [torch.arange(3)]})
    return store.publish(hidden, {"step": step})


def test_a_checkpoint_has_its_final_name_only_when_it_is_complete(tmp_path: Path) -> None:
    hidden = store.begin(tmp_path, 3)
    store.write_weights(hidden, {"a": torch.ones(1)}, None)
    assert store.complete(tmp_path) == []
    store.publish(hidden, {"step": 3})
    assert [path.name for path in store.complete(tmp_path)] == ["step-00000003"]


def test_an_incomplete_checkpoint_is_removed(tmp_path: Path) -> None:
    complete = save(tmp_path, 1)
    store.begin(tmp_path, 2)
    store.clean_up(tmp_path)
    assert list(tmp_path.iterdir()) == [complete]


def test_retention_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for step, value in ((1, 30.0), (2, 20.0), (3, 25.0), (4, 21.0)):
        save(tmp_path, step)
        store.note_best(tmp_path, step, "psnr", value, higher_is_better=True)
        store.retain(tmp_path, 2)
    assert [path.name[-1] for path in store.complete(tmp_path)] == ["1", "3", "4"]
    run = tmp_path.parent / "run"
    run.mkdir()
    tmp_path.rename(run / "checkpoints")
    assert store.choose(run, "best").name == "step-00000001"
    assert store.choose(run, "last").name == "step-00000004"


def test_a_saved_state_can_be_read_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert store.read_state(path, "state.pt")["pool"][0].tolist() == [0, 1, 2]
    assert store.read_weights(path)["net.weight"].eq(7).all()


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    (path / name).write_bytes(b"short")
    with pytest.raises(CheckpointError, match=f"cannot read .*{name}"):
        store.read_weights(path) if name.startswith("weights") else store.read_state(path, name)


def test_weights_that_do_not_fit_are_refused_with_the_first_difference() -> None:
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(CheckpointError, match="missing 'b'; unexpected 'c'"):
        store.check_fit({"a": torch.zeros(2), "c": torch.zeros(3)}, expected, Path("x"))
    with pytest.raises(CheckpointError, match=r"'b' has shape \(4,\), expected \(3,\)"):
        store.check_fit({"a": torch.zeros(2), "b": torch.zeros(4)}, expected, Path("x"))
    store.check_fit({"a": torch.zeros(2), "b": torch.zeros(3)}, expected, Path("x"))


def test_a_run_without_checkpoints_is_reported_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in .*: train the run first"):
        store.choose(tmp_path)
