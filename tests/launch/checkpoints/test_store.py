"""A checkpoint is complete or absent; retention keeps the last and the best; weights that do not fit are refused."""

import json
from pathlib import Path

import pytest
import torch

from quell.configs.errors import CheckpointError
from quell.launch.checkpoints import best, store
from quell.launch.checkpoints.layout import complete
from tests.support.checkpoints import forget_checksums, save


def test_a_checkpoint_has_its_final_name_only_when_it_is_complete(tmp_path: Path) -> None:
    hidden = store.begin(tmp_path, 3)
    store.write_weights(hidden, {"a": torch.ones(1)}, None)
    assert complete(tmp_path) == []
    store.publish(hidden, {"step": 3})
    assert [path.name for path in complete(tmp_path)] == ["step-00000003"]


def test_an_incomplete_checkpoint_is_removed_and_a_sealed_one_completed(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    store.begin(tmp_path, 3)
    second.rename(tmp_path / ".step-00000002")
    assert store.recover(tmp_path) == ["completed the save of step-00000002, which a kill had interrupted"]
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_sealed_but_damaged_hidden_checkpoint_is_not_taken(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / "state.pt").write_bytes(b"short")
    path.rename(tmp_path / ".step-00000001")
    assert store.recover(tmp_path) == [] and not list(tmp_path.iterdir())


def test_files_and_folders_in_the_way_stop_no_start(tmp_path: Path) -> None:
    """A file where a hidden folder is expected, and a folder in place of best.json, which is only a cache."""
    save(tmp_path, 1, psnr=20.0)
    (tmp_path / ".step-00000002").write_text("x")
    (tmp_path / "best.json").mkdir()
    assert store.recover(tmp_path) == []
    assert best.write_best(tmp_path, "psnr") == best.read_best(tmp_path) == {"step": 1, "metric": "psnr", "value": 20.0}
    assert (tmp_path / "best.json.damaged").is_dir()


def test_a_complete_hidden_checkpoint_of_format_1_is_taken_too(tmp_path: Path) -> None:
    """A kill of version 0.2 may have left it as the only one."""
    path = save(tmp_path, 1)
    forget_checksums(path)
    path.rename(tmp_path / ".step-00000001")
    assert len(store.recover(tmp_path)) == 1 and complete(tmp_path) == [path]


def test_a_run_folder_may_be_named_like_a_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "step-7"
    path = save(run / "checkpoints", 1)
    assert store.choose(run) == path
    (path / "meta.json").unlink()
    assert store.choose(path) == path, "a damaged checkpoint, which is refused when it is read"


def test_retention_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    for step, value in ((1, 30.0), (2, 20.0), (3, 25.0), (4, 21.0)):
        path = save(tmp_path, step, psnr=value)
        store.retain(path, 2, "psnr")
    assert [path.name[-1] for path in complete(tmp_path)] == ["1", "3", "4"]
    run = tmp_path.parent / "run"
    run.mkdir()
    tmp_path.rename(run / "checkpoints")
    assert store.choose(run, "best").name == "step-00000001"
    assert store.choose(run, "last").name == "step-00000004"


@pytest.mark.parametrize("content", [None, "{}", "null", "\ufffd", '{"step": "x", "metric": "psnr", "value": null}'])
def test_the_best_checkpoint_is_known_without_best_json(tmp_path: Path, content: str | None) -> None:
    """A kill between publishing a checkpoint and noting that it is the best loses nothing."""
    folder = tmp_path / "checkpoints"
    for step, value in ((1, 20.0), (2, 30.0), (3, 25.0), (4, float("nan"))):
        save(folder, step, psnr=value)
    if content is not None:
        (folder / "best.json").write_text(content)
    assert store.choose(tmp_path, "best").name == "step-00000002"
    assert best.write_best(folder, "psnr") == {"step": 2, "metric": "psnr", "value": 30.0}
    assert json.loads((folder / "best.json").read_text())["step"] == 2


def test_lower_is_better_for_an_error(tmp_path: Path) -> None:
    for step, value in ((1, 0.2), (2, 0.1), (3, 0.1)):
        save(tmp_path, step, rmse=value)
    found = best.find_best(tmp_path, "rmse")
    assert found is not None and found["step"] == 2, "the earliest of equal ones"


def test_a_best_checkpoint_that_is_damaged_is_refused_rather_than_replaced_by_the_second_best(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step, value in ((1, 30.0), (2, 20.0)):
        save(folder, step, psnr=value)
    best.write_best(folder, "psnr")
    (folder / "step-00000001" / "meta.json").write_text("{")
    chosen = store.choose(tmp_path, "best")
    with pytest.raises(CheckpointError, match=r"step-00000001 is damaged: meta\.json is not readable; .*step-00000002"):
        store.read_weights(chosen)


def test_a_saved_state_can_be_read_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert store.read_state(path, "state.pt")["pool"][0].tolist() == [0, 1, 2]
    assert store.read_weights(path)["net.weight"].eq(7).all()


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
