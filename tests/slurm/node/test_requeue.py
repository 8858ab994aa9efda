"""When a stopped job may start again, and what is said when it may not."""

import os
from pathlib import Path

import pytest

from configs.errors import EXIT_REQUEUE, DataError, DivergedError
from slurm.node import job, records, requeue
from slurm.stages.schema import Pick
from slurm.stages.task import Task


def task(folder: Path, *, code: str = "pass", kind: str = "train", max_requeues: int = 5) -> Task:
    """A task that runs a line of Python."""
    made = Task(
        stage="some", kind=kind, arguments=("-c", code), run_dir=str(folder / "run"), folder=str(folder / "jobs"),
        code=str(folder), max_requeues=max_requeues,
    )  # fmt: skip
    made.write()
    return made


def place(rank: int = 0) -> job.Place:
    return job.Place("7", rank, "node1", {})


def starts_at(made: Task, *steps: int) -> None:
    for step in steps:
        records.note(made.folder, "start", job="7", step=step)


def test_a_job_may_be_stopped_once_before_its_first_checkpoint_then_it_has_to_get_further(tmp_path: Path) -> None:
    made = task(tmp_path)
    starts_at(made, 0)
    assert requeue.why_not(made, "7", 0) == ""
    starts_at(made, 0)
    assert requeue.why_not(made, "7", 0) == "no progress between two requeues: still at step 0"
    assert requeue.why_not(made, "7", 1) == ""
    assert requeue.why_not(made, "8", 0) == "", "another job's starts do not count"


def test_the_number_of_requeues_is_limited(tmp_path: Path) -> None:
    made = task(tmp_path, max_requeues=2)
    starts_at(made, 0, 10)
    assert requeue.why_not(made, "7", 20) == ""
    starts_at(made, 20)
    assert requeue.why_not(made, "7", 30) == "started 3 times, and max_requeues is 2"


def test_a_start_that_follows_two_killed_ones_without_progress_refuses(tmp_path: Path, capfd: object) -> None:
    made = task(tmp_path)
    starts_at(made, 0, 0)
    with pytest.raises(DivergedError, match="no progress between two requeues: still at step 0"):
        job.run(made, place())
    end = records.history(made.folder)[-1]
    assert (end["event"], end["code"]) == ("end", 3)


def test_a_start_after_a_killed_one_says_where_it_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = task(tmp_path)
    starts_at(made, 0)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000040"
    checkpoint.mkdir(parents=True)
    (checkpoint / "meta.json").write_text("{}")
    (checkpoint.parent / "step-00000050").mkdir()  # what a save that did not fit the grace period leaves
    assert job.run(made, place()) == 0
    assert "the start before this one was killed before it could save; going on from step 40" in capfd.readouterr().err


def test_a_job_that_cannot_be_requeued_says_so_and_keeps_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = task(tmp_path, code=f"raise SystemExit({EXIT_REQUEUE})")
    assert job.run(made, place()) == EXIT_REQUEUE
    assert "not requeued: scontrol is not on the node's PATH" in capfd.readouterr().err
    assert records.history(made.folder)[-1]["code"] == EXIT_REQUEUE
    assert job.run(made, place(rank=1)) == 0, "the first rank decides"


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_a_process_that_a_stop_signal_found_deaf_counts_as_stopped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    made = task(tmp_path, code=f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert job.run(made, place()) == EXIT_REQUEUE
    assert "stopped before it could save at step 0" in capfd.readouterr().err


def test_a_signal_to_the_job_reaches_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    listen = "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0))"
    tell = "os.kill(os.getppid(), signal.SIGUSR2)"
    made = task(tmp_path, code=f"import os, signal, sys, time; {listen}; {tell}; time.sleep(60); sys.exit(9)")
    assert job.run(made, place()) == 0


def test_a_failure_is_written_down_with_rank_node_and_what_it_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = task(tmp_path, code="import sys; print('error: no shards', file=sys.stderr); sys.exit(4)")
    assert job.run(made, place(rank=3)) == 4
    failure = records.first_failure(made.folder, "7")
    assert failure is not None
    assert (failure["rank"], failure["node"], failure["says"]) == (3, "node1", "exit code 4")
    assert failure["tail"] == ["error: no shards"]
    assert "rank 3 on node1: exit code 4" in capfd.readouterr().err


def test_a_choice_that_cannot_be_made_is_written_down(tmp_path: Path) -> None:
    made = task(tmp_path).model_copy(update={"kind": "pick", "pick": Pick(stage="sweep"), "candidates": {"a": "/no"}})
    with pytest.raises(DataError, match="no member of 'sweep' can be chosen"):
        job.run(made, place())
    assert records.history(made.folder)[-1]["code"] == DataError.exit_code


def test_ranks_ended_because_another_failed_do_not_requeue_the_job(tmp_path: Path) -> None:
    made = task(tmp_path, code="import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    records.write_failure(made.folder, job="7", rank=1, node="n", says="exit code 4", at=1.0, tail=[])
    late = "import pathlib, sys; "  # rank 1's note comes while rank 0 runs: starts clear older ones
    note = Path(made.folder, "failure-1.json")
    text = note.read_text()
    late += f"pathlib.Path({str(note)!r}).write_text({text!r}); import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert job.run(task(tmp_path, code=late), place()) == 128 + 15
    assert [event["event"] for event in records.history(made.folder)] == ["start", "end"]


def test_an_unknown_first_node_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from configs.errors import MachineError

    for key, value in {
        "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "nowhere.invalid",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(MachineError, match="first node's name nowhere.invalid is unknown on"):
        job._place()
    assert 10_000 <= int(os.environ["MASTER_PORT"]) < 30_000
