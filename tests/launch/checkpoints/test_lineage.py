"""Returning to an older checkpoint: later work is moved aside, new work is never removed, and restarts go on."""

from pathlib import Path

import pytest

from quell.launch.checkpoints import lineage, resume, store
from quell.launch.checkpoints.layout import step_folders
from quell.launch.checkpoints.resume import Resumption
from tests.support.checkpoints import save
from tests.support.runs import checkpoint_of, read_events, read_weights, same_bits
from tests.support.small_runs import TrainSmall


def names(folder: Path) -> list[str]:
    return [path.name for path in step_folders(folder)]


def go_on(run: Path, resumption: Resumption, *steps: int, keep_last: int = 1) -> None:
    """Do what a run does with a resumption, up to a kill after its last save."""
    folder = run / "checkpoints"
    if resumption.checkpoint is not None:
        strangers = lineage.strangers(folder, resumption.checkpoint)
        if strangers:
            lineage.set_aside(strangers, lineage.aside_folder(folder, resumption.checkpoint))
    for step in steps:
        store.retain(save(folder, step, line=list(resumption.line)), keep_last, "psnr")


def begun(run: Path, *steps: int) -> Path:
    go_on(run, resume.find_checkpoint(run, "auto"), *steps, keep_last=9)
    return run / "checkpoints"


def test_new_work_is_kept_and_later_work_is_set_aside(tmp_path: Path) -> None:
    folder = begun(tmp_path, 5, 10, 15, 20)
    back = resume.find_checkpoint(tmp_path, str(folder / "step-00000010"))
    assert back.checkpoint == folder / "step-00000010"
    go_on(tmp_path, back, 12, keep_last=1)
    assert names(folder) == ["step-00000012"], "not the highest steps, but the line of descent"
    assert names(folder / "aside-after-step-00000010") == ["step-00000015", "step-00000020"]


def test_a_preempted_run_that_returned_goes_on_with_the_same_command(tmp_path: Path) -> None:
    folder = begun(tmp_path, 5, 10, 15, 20)
    target = str(folder / "step-00000010")
    go_on(tmp_path, resume.find_checkpoint(tmp_path, target), keep_last=2)  # killed before it saved
    for step in (11, 12, 13):
        resumption = resume.find_checkpoint(tmp_path, target)
        go_on(tmp_path, resumption, step, keep_last=2)
        if step > 11:
            assert resumption.checkpoint is not None and resumption.checkpoint.name == f"step-{step - 1:08d}"
            assert "has returned to" in resumption.notes[0] and "move " in resumption.notes[0]
    assert not Path(target).exists(), "retention has removed it"
    assert names(folder) == ["step-00000012", "step-00000013"]


def test_returning_to_the_newest_checkpoint_goes_on_after_a_kill_too(tmp_path: Path) -> None:
    folder = begun(tmp_path, 5, 10)
    for step in (11, 12):
        go_on(tmp_path, resume.find_checkpoint(tmp_path, str(folder / "step-00000010")), step, keep_last=9)
    assert names(folder)[-2:] == ["step-00000011", "step-00000012"] and not list(folder.glob("aside*"))


def test_the_user_may_change_their_mind_and_return_to_what_was_set_aside(tmp_path: Path) -> None:
    folder = begun(tmp_path, 5, 10, 15, 20)
    go_on(tmp_path, resume.find_checkpoint(tmp_path, str(folder / "step-00000010")), 15, 20, keep_last=9)
    old = folder / "aside-after-step-00000010" / "step-00000020"
    go_on(tmp_path, resume.find_checkpoint(tmp_path, str(old)), 25, keep_last=9)
    assert names(folder) == ["step-00000005", "step-00000010", "step-00000025"]
    assert names(folder / "aside-after-step-00000020") == ["step-00000015", "step-00000020"]


def test_checkpoints_of_another_run_in_the_folder_are_set_aside(tmp_path: Path) -> None:
    other = begun(tmp_path / "other", 5, 10)
    folder = begun(tmp_path / "run", 5, 20)
    target = other.parent
    go_on(tmp_path / "run", resume.find_checkpoint(tmp_path / "run", str(target)), 15, keep_last=9)
    assert names(folder) == ["step-00000015"]
    begun(tmp_path / "other", 30)  # the other run goes on: a restart of this one does not follow it
    resumption = resume.find_checkpoint(tmp_path / "run", str(target))
    assert resumption.checkpoint == folder / "step-00000015"


def test_a_run_without_a_recorded_line_is_its_own_trunk(tmp_path: Path) -> None:
    """Checkpoints up to version 0.2 do not record a line."""
    folder = tmp_path / "checkpoints"
    for step in (5, 10, 15):
        save(folder, step)
    go_on(tmp_path, resume.find_checkpoint(tmp_path, "auto"), 20, keep_last=2)
    assert names(folder) == ["step-00000015", "step-00000020"]
    go_on(tmp_path, resume.find_checkpoint(tmp_path, str(folder / "step-00000015")), 16, keep_last=2)
    assert names(folder) == ["step-00000015", "step-00000016"]


def test_a_run_returns_to_an_older_checkpoint_and_repeats_the_same_steps(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    options = ("checkpoint.every_steps=1", "checkpoint.keep_last=3", "evaluation.every_epochs=null")
    run = tmp_path / "run"
    assert train_small(*options)[0] == 0
    before = read_weights(run, 4)
    code, output = train_small(*options, options=("--resume", str(checkpoint_of(run, 2))))
    aside = run / "checkpoints" / "aside-after-step-00000002"
    assert code == 0 and f"moved step-00000003, step-00000004 to {aside}" in output and "at step 2 of 4" in output
    assert same_bits(read_weights(run, 4), before)
    assert [event["step"] for event in read_events(run, "checkpoint")] == [1, 2, 3, 4]
    assert '"step": 4' in (aside / "metrics.jsonl").read_text(), "the log of the work that was set aside"


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_a_fresh_run_has_a_line_of_its_own(tmp_path: Path, mode: str) -> None:
    first, second = (resume.find_checkpoint(tmp_path / name, mode) for name in ("a", "b"))
    assert first.checkpoint is None and first.line != second.line
