"""The status table, from what runs and jobs leave on disk."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import portalocker
import pytest

from quell.configs.errors import MachineError
from quell.slurm import submit
from quell.slurm.node import records
from quell.slurm.report import rows, status
from quell.slurm.submission import client, state
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest, SubmittedStage, SubmittedTask, is_locked, locked


def submission(root: Path, after: dict[str, dict[str, Any]]) -> Manifest:
    """Training stages submitted as jobs 1, 2, ..."""
    stages = {}
    for number, (name, waits_for) in enumerate(after.items(), 1):
        folder, run = root / "jobs" / name, root / name
        folder.mkdir(parents=True)
        task = SubmittedTask(name=name, job=str(number), kind="train", run_dir=str(run), folder=str(folder), digest="x")
        stages[name] = SubmittedStage(job=str(number), after=waits_for, tasks=(task,))
    return Manifest(name="n", executor="slurm", stage_file="f", created="c", commit="", code="", stages=stages)


def task_status(manifest: Manifest, name: str, **queue: QueuedJob) -> tuple[str, str]:
    """State and reason of a stage's only task; `queue` has the jobs as job1, job2, ..."""
    jobs = {job.removeprefix("job"): queued for job, queued in queue.items()}
    status = state.task_status(manifest, name, manifest.stages[name].tasks[0], jobs)
    return status.state, status.reason


def finish(root: Path, name: str, job: str) -> None:
    """Leave what a finished run leaves."""
    run = root / name
    run.mkdir(exist_ok=True)
    (run / "summary.json").write_text(json.dumps({"status": "finished", "step": 9, "steps": 9}))
    records.append_event(root / "jobs" / name, "end", job=job, code=0, step=9, reason="finished")


def table(manifest: Manifest, *, unfold: bool = False) -> list[str]:
    """The lines of the table."""
    current, note = status.read(manifest)
    return (note + status.table(manifest, current, unfold=unfold)).splitlines()


def test_a_running_stage_shows_node_step_loss_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = submission(tmp_path, {"a": {}})
    monkeypatch.setattr(client, "queue", lambda: {"1": QueuedJob("RUNNING", "None", "n[1-2]", 3725)})
    run = tmp_path / "a"
    run.mkdir()
    (run / "summary.json").write_text(json.dumps({"status": "running", "step": 20, "steps": 100}))
    (run / ".lock").write_text("process 1 on another-node, SLURM job 1")
    # the job waited in the queue for an hour between its steps 30 and 40
    times = {10: 1000.0, 20: 1100.0, 30: 1200.0, 40: 4900.0}
    events = [{"event": "train", "step": step, "time": at, "loss_a": 1 / step} for step, at in times.items()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events) + '{"half')
    header, row = table(manifest)
    assert header.split() == ["stage", "job", "state", "node", "step", "loss", "elapsed", "left", "why"]
    assert row.split() == ["a", "1", "running", "n[1-2]", "40/100", "0.025", "1:02:05", "0:10:00"]


def test_a_run_whose_process_is_gone_has_no_time_left(tmp_path: Path) -> None:
    run = tmp_path / "a"
    run.mkdir()
    (run / "summary.json").write_text(json.dumps({"status": "running", "step": 20, "steps": 100}))
    assert records.summary(run)["status"] == "interrupted"
    for name in ("step-00000020", "step-00000030-copy"):
        (run / "checkpoints" / name).mkdir(parents=True)
        (run / "checkpoints" / name / "meta.json").write_text("{}")
    assert records.saved_step(run) == 20


def test_without_slurm_the_states_come_from_the_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = submission(tmp_path, {"a": {}})
    finish(tmp_path, "a", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    note, _, row = table(manifest)
    assert "squeue is not installed here" in note and row.split()[:3] == ["a", "1", "finished"]


def test_every_state_has_its_reason(tmp_path: Path) -> None:
    manifest = submission(tmp_path, {"a": {}, "b": {"a": "afterok"}, "c": {"a": "afternotok"}})
    assert task_status(manifest, "b", job2=QueuedJob("PENDING", "Dependency")) == (
        "waiting",
        "for the stages before it",
    )
    assert task_status(manifest, "a")[0] == "gone", "left the queue without a trace"
    records.append_event(tmp_path / "jobs" / "a", "start", job="1", step=0)
    timeout = QueuedJob("TIMEOUT", "TimeLimit")
    assert task_status(manifest, "a", job1=timeout)[1].startswith("SLURM reports TIMEOUT (TimeLimit)")
    assert task_status(manifest, "a")[1].startswith("job 1 exited without recording a status")
    assert task_status(manifest, "a", job1=QueuedJob("PENDING", "BeginTime")) == (
        "waiting",
        "to be started again, requeued once",
    )
    held = QueuedJob("PENDING", "launch failed requeued held")
    says = "held, because SLURM could not start it: submit again to release it, requeued once"
    assert held.held and task_status(manifest, "a", job1=held) == ("waiting", says)
    records.append_event(tmp_path / "jobs" / "a", "end", job="1", step=4, code=75, reason="started 3 times")
    assert task_status(manifest, "a") == ("stopped", "started 3 times")
    cancelled = QueuedJob("CANCELLED", "None")
    assert task_status(manifest, "a", job1=cancelled) == ("cancelled", "with a checkpoint at step 4")
    assert task_status(manifest, "b", job2=QueuedJob("CANCELLED", "x")) == ("skipped", "because a did not finish")
    finish(tmp_path, "a", "1")
    assert task_status(manifest, "a") == ("finished", "")
    assert task_status(manifest, "c") == ("skipped", "not needed: a finished")
    shutil.rmtree(tmp_path / "a")
    assert task_status(manifest, "a")[0] == "gone"


def test_the_rank_that_failed_first_is_shown(tmp_path: Path) -> None:
    manifest = submission(tmp_path, {"a": {}})
    outputs = {0: (20.0, ["RuntimeError: Connection closed by peer"]), 1: (10.0, ["x", "error: bad data", ""])}
    for rank, (at, tail) in outputs.items():
        failure = records.Failure(job="1", rank=rank, node=f"n{rank}", says="exit code 4", time=at, tail=tail)
        records.write_failure(tmp_path / "jobs" / "a", failure)
    assert task_status(manifest, "a") == ("failed", "rank 1 on n1, exit code 4: error: bad data")
    resubmitted = manifest.model_copy(update={"stages": {"a": _as_job(manifest, "7")}})
    assert task_status(resubmitted, "a")[0] == "gone", "the failure of an earlier job does not count"


def _as_job(manifest: Manifest, job: str) -> SubmittedStage:
    stage = manifest.stages["a"]
    return stage.model_copy(update={"job": job, "tasks": (stage.tasks[0].model_copy(update={"job": job}),)})


def test_asking_for_the_status_does_not_stop_a_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking holds a shared lock for a moment: a submission waits for it, and others who ask are not misled by it."""
    assert not is_locked(tmp_path) and not list(tmp_path.iterdir()), "asking leaves nothing behind"
    with locked(tmp_path):
        assert is_locked(tmp_path)
    with (tmp_path / ".lock").open() as asking:
        portalocker.lock(asking, portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING)
        assert not is_locked(tmp_path)
        monkeypatch.setattr("time.sleep", lambda _: asking.close())
        with locked(tmp_path):
            assert asking.closed and is_locked(tmp_path)


def test_a_submission_that_is_under_way_stops_another(tmp_path: Path) -> None:
    started = time.monotonic()
    with (
        locked(tmp_path),
        pytest.raises(MachineError, match="another process is submitting"),
        locked(tmp_path),
    ):
        pytest.fail("two submissions at once")
    assert 0.5 < time.monotonic() - started < 5


def sweep(root: Path, states: dict[str, QueuedJob]) -> Manifest:
    """A sweep whose members are these jobs of an array."""
    manifest = submission(root, {"sweep": {}})
    tasks = []
    for number, member in enumerate(states):
        folder = root / "jobs" / f"sweep.{member}"
        folder.mkdir()
        tasks.append(SubmittedTask(
            name=f"sweep.{member}", job=f"1_{number}", kind="train", run_dir=str(root / "sweep" / member),
            folder=str(folder), digest="x",
        ))  # fmt: skip
    return manifest.model_copy(update={"stages": {"sweep": SubmittedStage(job="1", tasks=tuple(tasks))}})


RUNNING, TIMEOUT = QueuedJob("RUNNING", "None", "n1", 60), QueuedJob("TIMEOUT", "TimeLimit", "n2", 7200)


def queue_of(manifest: Manifest, states: dict[str, QueuedJob]) -> dict[str, QueuedJob]:
    return dict(zip((task.job for task in manifest.stages["sweep"].tasks), states.values(), strict=True))


def test_the_members_of_a_sweep_are_counted_by_state_and_unfolded_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = QueuedJob("PENDING", "Resources", expected_start="2026-11-30T14:30:00")
    states = {**{f"r{i}": RUNNING for i in range(30)}, **{f"p{i}": pending for i in range(19)}, "late": TIMEOUT}
    manifest = sweep(tmp_path, states)
    monkeypatch.setattr(client, "queue", lambda: queue_of(manifest, states))
    _, running, waiting, failed = table(manifest)
    assert running.split() == ["sweep", "(30", "of", "50)", "1", "running", "n1", "0:01:00"]
    assert waiting.startswith("sweep (19 of 50)") and "Resources, expected to start 2026-11-30T14:30:00" in waiting
    assert failed.split()[:4] == ["sweep.late", "1_49", "failed", "n2"], "a single one keeps its name"
    assert len(table(manifest, unfold=True)) == 51


def test_different_reasons_of_folded_members_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"a": TIMEOUT, "b": QueuedJob("OUT_OF_MEMORY", "OutOfMemory"), "c": TIMEOUT}
    manifest = sweep(tmp_path, states)
    monkeypatch.setattr(client, "queue", lambda: queue_of(manifest, states))
    (row,) = table(manifest)[1:]
    assert "sweep (3 of 3)" in row and "sweep.a: SLURM reports TIMEOUT" in row and "--all shows the others" in row


def test_json_has_every_member_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = sweep(tmp_path, {"a": RUNNING, "b": RUNNING})
    monkeypatch.setattr(client, "queue", lambda: queue_of(manifest, {"a": RUNNING, "b": RUNNING}))
    manifest.write(tmp_path)
    status.show(tmp_path, unfold=False, as_json=True, every_s=None)
    answer = json.loads(capsys.readouterr().out)
    assert [task["task"] for task in answer["tasks"]] == ["sweep.a", "sweep.b"]
    assert answer["tasks"][0]["elapsed_s"] == 60 and answer["tasks"][0]["left_s"] is None


def test_watching_ends_when_nothing_runs_or_waits_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = submission(tmp_path, {"a": {}})
    manifest.write(tmp_path)
    answers = iter([QueuedJob("PENDING", "Priority"), RUNNING, TIMEOUT])
    pauses: list[float] = []
    monkeypatch.setattr(client, "queue", lambda: {"1": next(answers)})
    monkeypatch.setattr("time.sleep", pauses.append)
    status.show(tmp_path, unfold=False, as_json=False, every_s=10)
    states = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("a ")]
    assert states == ["waiting", "running", "failed"] and pauses == [10, 10]


def test_the_way_to_the_curves_is_shown_once_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = submission(tmp_path, {"a": {}, "b": {}})
    monkeypatch.setattr(client, "queue", dict)
    assert "curves" not in "".join(table(manifest))
    (tmp_path / "b" / "tensorboard").mkdir(parents=True)
    *_, first, second = table(manifest)
    assert f"tensorboard --logdir {tmp_path} --port 6006" in first and "ssh -N -L 6006:localhost:6006" in second


def test_the_queue_is_read_with_nodes_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["1|RUNNING|n[1-2]|1-02:03:04|2026-11-30T10:00:00|None", "2|PENDING||0:00|N/A|(Odd|Reason)",
             "3_1|PENDING||0:00|2026-12-01T09:00:00|Resources", "4|CANCELLED||INVALID|N/A|None"]  # fmt: skip
    (tmp_path / "squeue").write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert client.queue() == {
        "1": QueuedJob("RUNNING", "None", "n[1-2]", 93784),
        "2": QueuedJob("PENDING", "(Odd|Reason)", "", 0),
        "3_1": QueuedJob("PENDING", "Resources", "", 0, "2026-12-01T09:00:00"),
        "4": QueuedJob("CANCELLED", "None"),
    }


def test_the_time_of_a_start_is_what_was_recorded_once_the_job_is_gone(tmp_path: Path) -> None:
    manifest = submission(tmp_path, {"a": {}})
    events = [{"event": "start", "job": "1", "step": 0, "time": 100.0, "node": "n3"}]
    history = tmp_path / "jobs" / "a" / records.EVENTS_FILE

    def row() -> rows.Row:
        history.write_text("".join(json.dumps(event) + "\n" for event in events))
        return rows.rows(manifest, {})[0]

    assert row().elapsed_s is None and row().node == "n3", "killed, nobody knows when"
    events.append({"event": "end", "job": "1", "step": 9, "time": 160.5, "code": 1, "reason": "exit code 1"})
    assert row().elapsed_s == 60
    events.append({"event": "start", "job": "1", "step": 9, "time": 200.0, "node": "n4"})
    events.append({"event": "end", "job": "1", "step": 9, "time": 203.0, "code": 0, "reason": "finished"})
    assert row().elapsed_s == 3 and row().node == "n4"


@pytest.mark.parametrize("pause", ["0", "x", "nan", "1e9"])
def test_a_pause_that_makes_no_sense_is_refused(pause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        submit.main(["status", str(tmp_path), "--watch", pause])
    assert f"expected 1 to 86400 seconds, got '{pause}'" in capsys.readouterr().err
