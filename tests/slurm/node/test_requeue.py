"""When a stopped job may start again, and what is recorded and logged when it may not."""

import os
import time
from pathlib import Path
from unittest import mock

import pytest

from quell.configs.errors import EXIT_REQUEUE, DataError, MachineError
from quell.slurm.node import job, records, requeue
from quell.slurm.node.placement import RankPlacement, of_this_process
from quell.slurm.stages.schema import Pick
from quell.slurm.stages.task import Task


def write_task(folder: Path, *, code: str = "pass", max_requeues: int = 5) -> Task:
    """A training task that runs some Python code instead."""
    task = Task(
        stage="some", kind="train", arguments=("-c", code), run_dir=str(folder / "run"), folder=str(folder / "jobs"),
        code=str(folder), max_requeues=max_requeues,
    )  # fmt: skip
    task.write()
    return task


def placement(rank: int = 0) -> RankPlacement:
    return RankPlacement("7", rank, "node1", {})


def start(task: Task, *, step: int = 0, elapsed_s: float = 0) -> None:
    """Record a start of job 7, so many seconds ago."""
    at = time.time() - elapsed_s
    with mock.patch("time.time", lambda: at):
        records.append_event(
            task.folder, "start", job="7", step=step, node="n", checkpoints=records.checkpoints(task.run_dir)
        )


def stop(task: Task, received: str | None) -> str:
    """Record how the latest start stopped; why the job may not be requeued after it, empty if it may."""
    outcome = requeue.outcome(task, "7", received)
    records.append_event(task.folder, "stop", job="7", code=75, outcome=outcome)
    refused = requeue.refusal(task, "7", outcome)
    return refused.reason if refused else ""


def save(task: Task, step: int) -> None:
    """Leave a complete checkpoint."""
    checkpoint = Path(task.run_dir, "checkpoints", f"step-{step:08}")
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "meta.json").write_text("{}")


def test_starts_that_slurm_ends_before_their_first_step_never_count(tmp_path: Path) -> None:
    task = write_task(tmp_path, max_requeues=5)
    for _ in range(20):
        start(task)
        assert stop(task, "SIGTERM") == ""


def test_several_fruitless_starts_in_a_row_end_the_job(tmp_path: Path) -> None:
    task = write_task(tmp_path, max_requeues=50)
    save(task, 10)
    for _ in range(requeue.FRUITLESS_STARTS - 1):
        start(task, step=10)
        assert stop(task, None) == ""
        start(task, step=10)
        assert stop(task, "SIGTERM") == "", "says nothing, and does not end the row"
    start(task, step=10)
    assert stop(task, None).startswith("no progress: 3 starts in a row ended without having saved anything, at step 10")


def test_a_start_that_saves_something_ends_the_row_even_after_a_damaged_checkpoint(tmp_path: Path) -> None:
    task = write_task(tmp_path, max_requeues=50)
    save(task, 20)
    for _ in range(2 * requeue.FRUITLESS_STARTS):
        start(task, step=20)
        (tmp_path / "run" / "checkpoints" / "step-00000020" / "meta.json").unlink(missing_ok=True)  # found damaged
        save(task, 10)  # the run fell back, and was stopped before it was where it had been
        assert stop(task, "SIGTERM") == "" and stop(task, None) == ""
        save(task, 20)


def test_starts_that_use_their_whole_time_for_nothing_end_the_job(tmp_path: Path) -> None:
    task = write_task(tmp_path).model_copy(update={"time_min": 10, "grace_s": 60})
    for number in range(requeue.FRUITLESS_STARTS):
        start(task, elapsed_s=8.5 * 60)
        refusal = stop(task, "SIGUSR2")
        assert bool(refusal) == (number == requeue.FRUITLESS_STARTS - 1)
    assert "raise resources.time_min (10)" in refusal


def test_the_number_of_requeues_is_limited(tmp_path: Path) -> None:
    task = write_task(tmp_path, max_requeues=2)
    for step in (10, 20, 30):
        start(task, step=step - 10)
        save(task, step)
        refusal = stop(task, "SIGTERM")
        assert bool(refusal) == (step == 30)
    assert refusal == "started 3 times, and max_requeues is 2"


def test_records_of_an_earlier_version_keep_counting(tmp_path: Path) -> None:
    task = write_task(tmp_path, max_requeues=1)
    for step in (0, 10):
        records.append_event(task.folder, "start", job="7", step=step)
        records.append_event(task.folder, "stop", job="7", step=step + 10)
    start(task, step=20)
    save(task, 30)
    assert stop(task, "SIGTERM") == "started 3 times, and max_requeues is 1"


def test_a_start_after_a_killed_one_logs_where_it_resumes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = write_task(tmp_path)
    start(task)
    save(task, 40)
    # left by a save that did not fit into the grace period
    (tmp_path / "run" / "checkpoints" / "step-00000050").mkdir()
    assert job.run(task, placement()) == 0
    assert "the previous start was killed before it could save; resuming from step 40" in capfd.readouterr().err


def test_a_job_that_cannot_be_requeued_logs_why_and_keeps_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    task = write_task(tmp_path, code=f"raise SystemExit({EXIT_REQUEUE})")
    assert job.run(task, placement()) == EXIT_REQUEUE
    assert "not requeued: scontrol is not on the node's PATH" in capfd.readouterr().err
    assert records.history(task.folder)[-1]["code"] == EXIT_REQUEUE
    assert job.run(task, placement(rank=1)) == 0, "the first rank decides"


def test_a_job_waits_for_a_controller_that_is_being_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    away = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    program = tmp_path / "scontrol"
    program.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/asked ] || {{ touch {tmp_path}/asked; echo '{away}' >&2; exit 1; }}\n"
        "[ $1 = requeue ] || echo JobId=7 JobState=RUNNING Requeue=1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(requeue, "_PAUSE_S", 0.01)
    monkeypatch.setattr("quell.slurm.node.endings._SLURM_ENDS_US_S", 0)
    task = write_task(tmp_path, code=f"raise SystemExit({EXIT_REQUEUE})")
    assert job.run(task, placement()) == 0
    assert "requeueing job 7" in capfd.readouterr().err


def test_a_node_is_excluded_although_slurms_signal_ends_the_first_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM ends the processes of a job that is requeued, `scontrol` among them, which then says nothing."""
    tries, asked = tmp_path / "tries", tmp_path / "asked"
    script = f'echo x >>{tries}; [ $(wc -l <{tries}) -gt 2 ] || kill -TERM $$; echo "$@" >>{asked}; echo ExcNodeList=n1'
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(requeue, "_PAUSE_S", 0.01)
    assert requeue.exclude(["7"], ["n2"]) == ""
    assert asked.read_text().splitlines() == ["show job -o 7", "update JobId=7 ExcNodeList=n1,n2"]


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_a_process_killed_by_a_stop_signal_before_it_handles_them_counts_as_stopped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    task = write_task(tmp_path, code=f"import os, signal; os.kill(os.getpid(), signal.{name})")
    assert job.run(task, placement()) == EXIT_REQUEUE
    assert "stopped before it could save at step 0 (no signal received)" in capfd.readouterr().err


def test_a_signal_to_the_job_reaches_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    handle = "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(0))"
    send = "os.kill(os.getppid(), signal.SIGUSR2)"
    task = write_task(tmp_path, code=f"import os, signal, sys, time; {handle}; {send}; time.sleep(60); sys.exit(9)")
    assert job.run(task, placement()) == 0


def test_a_failure_is_recorded_with_rank_node_and_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = write_task(tmp_path, code="import sys; print('error: no shards', file=sys.stderr); sys.exit(4)")
    assert job.run(task, placement(rank=3)) == 4
    failure = records.first_failure(task.folder, "7")
    assert failure is not None
    assert (failure["rank"], failure["node"], failure["says"]) == (3, "node1", "exit code 4")
    assert failure["tail"] == ["error: no shards"]
    assert "rank 3 on node1: exit code 4" in capfd.readouterr().err


def test_a_pick_without_candidates_is_recorded_as_failed(tmp_path: Path) -> None:
    pick = {"kind": "pick", "pick": Pick(stage="sweep"), "candidates": {"a": "/no"}}
    task = write_task(tmp_path).model_copy(update=pick)
    with pytest.raises(DataError, match="no member of 'sweep' can be compared"):
        job.run(task, placement())
    assert records.history(task.folder)[-1]["code"] == DataError.exit_code


def test_ranks_stopped_because_another_failed_do_not_requeue_the_job(tmp_path: Path) -> None:
    task = write_task(tmp_path)
    failure = records.Failure(job="7", rank=1, node="n", says="exit code 4", time=1.0, tail=[])
    records.write_failure(task.folder, failure)
    file = Path(task.folder, "failure-1.json")
    # rank 0 removes old failures when it starts, so rank 1's has to appear while rank 0 runs
    fail = f"pathlib.Path({str(file)!r}).write_text({file.read_text(encoding='utf-8')!r})"
    code = f"import os, pathlib, signal; {fail}; os.kill(os.getpid(), signal.SIGTERM)"
    assert job.run(write_task(tmp_path, code=code), placement()) == 128 + 15
    assert [event["event"] for event in records.history(task.folder)] == ["start", "end"]


def test_a_first_node_that_cannot_be_resolved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {
        "SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "nowhere.invalid",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(MachineError, match="cannot resolve the first node's name 'nowhere.invalid' on"):
        of_this_process()
    assert 10_000 <= int(os.environ["MASTER_PORT"]) < 30_000
