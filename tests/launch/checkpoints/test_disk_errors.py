"""A disk that is full, limited, broken or gone: one sentence with the path, no rubbish, the last checkpoint intact."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from quell.configs.errors import MachineError
from quell.launch.checkpoints import integrity, store
from quell.launch.checkpoints.async_writer import AsyncWriter, note_failure, wait_for_files
from tests.support.checkpoints import save
from tests.support.fault_points import DISK_ERRORS, failing, points_of
from tests.support.runs import read_events, read_summary
from tests.support.small_runs import TrainSmall, single_error


@pytest.fixture(autouse=True)
def _without_syncing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def save_or_abandon(folder: Path, step: int) -> None:
    try:
        save(folder, step)
    except BaseException:
        store.abandon(folder / f".step-{step:08d}")
        raise


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "the same step again"])
def test_every_operation_that_fails_is_explained_and_leaves_the_last_checkpoint(tmp_path: Path, again: bool) -> None:
    first = save(tmp_path, 1)
    if again:
        save(tmp_path, 2)
    count = len(points_of(lambda: save(tmp_path, 2), tmp_path))
    if not again:
        store.remove(tmp_path / "step-00000002")
    refused = 0
    for at in range(count):
        number = DISK_ERRORS[at % len(DISK_ERRORS)]
        with failing(number, tmp_path, at) as points:
            try:
                save_or_abandon(tmp_path, 2)
            except MachineError as error:
                refused += 1
                assert str(error).startswith("cannot write the checkpoint ") and os.strerror(number) in str(error)
                assert str(tmp_path) in str(error) and "the last complete checkpoint is untouched" in str(error)
                for left in tmp_path.glob(".step-*"):
                    assert not integrity.problems(left), "only a complete checkpoint, which the next start takes"
        assert not integrity.problems(first), points.seen[at]
        store.recover(tmp_path)
        assert not list(tmp_path.glob(".*")) and not (again and not (tmp_path / "step-00000002").exists())
        save(tmp_path, 2)
        if not again:
            store.remove(tmp_path / "step-00000002")
    assert refused > 8


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EFBIG, "raise the limit (ulimit)"),
        (errno.ESTALE, "check the network and its file systems"),
        (errno.EROFS, "give access"),
    ],
)
def test_a_run_whose_checkpoint_cannot_be_written_ends_with_a_sentence_and_is_failed(
    train_small: TrainSmall, tmp_path: Path, number: int, advice: str
) -> None:
    options = ("checkpoint.every_steps=1", "evaluation.every_epochs=null", "checkpoint.keep_last=9")
    assert train_small(*options, "loop.max_steps=1")[0] == 0
    folder = tmp_path / "run" / "checkpoints"
    with failing(number, folder, 8):
        code, output = train_small(*options)
    error = single_error(output)
    assert code == 6 and os.strerror(number) in error and advice in error and str(folder) in error
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "failed" and os.strerror(number) in summary["error"]
    assert sorted(os.listdir(folder)) == ["best.json", "step-00000001"] or os.listdir(folder) == ["step-00000001"]
    assert train_small(*options)[0] == 0
    assert read_summary(tmp_path / "run")["status"] == "finished" and read_summary(tmp_path / "run")["error"] is None


def test_rank_0_learns_at_once_that_another_rank_could_not_write(tmp_path: Path) -> None:
    note_failure(tmp_path, 1, MachineError("cannot write the checkpoint rank-1.pt (No space left on device)"))
    with pytest.raises(MachineError, match=r"rank 1: cannot write the checkpoint rank-1\.pt"):
        wait_for_files([tmp_path / "rank-0.pt", tmp_path / "rank-1.pt"], 60)


def test_old_checkpoints_that_cannot_be_removed_do_not_end_the_run(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store, "remove", fail)
    code, output = train_small("checkpoint.every_steps=1", "checkpoint.keep_last=1", "evaluation.every_epochs=null")
    assert code == 0 and "cannot remove an old checkpoint in" in output and "Input/output error" in output


def test_an_error_of_the_background_writer_ends_the_run_before_the_next_save(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = AsyncWriter.start

    def start_and_let_it_finish(writer: AsyncWriter, *arguments: Any, **options: Any) -> None:
        start(writer, *arguments, **options)
        assert writer._thread is not None
        writer._thread.join()

    monkeypatch.setattr(AsyncWriter, "start", start_and_let_it_finish)
    every = ("checkpoint.every_steps=2", "loop.max_steps=100", "tracking.log_every=1", "evaluation.every_epochs=null")
    with failing(errno.ENOSPC, tmp_path / "run" / "checkpoints", 8):
        code, output = train_small(*every)
    assert code == 6 and "No space left on device" in single_error(output)
    assert [event["step"] for event in read_events(tmp_path / "run", "train")] == [1, 2]
