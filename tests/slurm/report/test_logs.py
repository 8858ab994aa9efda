"""Which log `logs` shows: that of the rank that failed first, or of the one that was asked for."""

from pathlib import Path

import pytest

from quell.configs.errors import ConfigError
from quell.slurm.node import records
from quell.slurm.report import logs
from quell.slurm.submission import client
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest, SubmittedStage, SubmittedTask


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """One stage of three ranks, job 7, whose ranks have printed their numbers."""
    folder = tmp_path / "jobs" / "a"
    folder.mkdir(parents=True)
    for rank in range(3):
        log = tmp_path / "logs" / "a" / "7" / f"7_{rank}_log.out"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"output of rank {rank}\n")
    task = SubmittedTask(name="a", job="7", kind="train", run_dir=str(tmp_path / "a"), folder=str(folder), digest="x")
    stages = {"a": SubmittedStage(job="7", tasks=(task,))}
    return Manifest(name="n", executor="slurm", stage_file="f", created="c", commit="", code="", stages=stages)


def fail(manifest: Manifest, rank: int, at: float) -> None:
    """Record a failure of a rank."""
    failure = records.Failure(job="7", rank=rank, node=f"n{rank}", says="exit code 1", time=at, tail=["error: x"])
    records.write_failure(manifest.stages["a"].tasks[0].folder, failure)


def test_the_rank_that_failed_first_is_shown_unless_another_is_asked_for(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.show(manifest, tmp_path, "a", follow=False)
    assert capsys.readouterr().out == "output of rank 0\n"
    for rank, at in ((0, 30.0), (2, 10.0), (1, 20.0)):
        fail(manifest, rank, at)
    logs.show(manifest, tmp_path, "a", follow=False)
    shown = capsys.readouterr()
    assert shown.out == "output of rank 2\n" and "rank 2 failed first" in shown.err
    logs.show(manifest, tmp_path, "a", follow=False, rank=1)
    assert capsys.readouterr() == ("output of rank 1\n", "")


def test_a_rank_that_the_job_does_not_have_is_named(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rank 3 of 'a': it has the ranks 0, 1, 2"):
        logs.show(manifest, tmp_path, "a", follow=False, rank=3)


def test_a_failure_while_the_log_is_followed_is_pointed_out(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = iter(["PENDING", "RUNNING", "FAILED"])

    def queue() -> dict[str, QueuedJob]:
        state = next(states)
        if state == "FAILED":
            fail(manifest, 1, 10.0)
        return {"7": QueuedJob(state, "Resources")}

    monkeypatch.setattr(client, "queue", queue)
    monkeypatch.setattr("time.sleep", lambda _: None)
    logs.show(manifest, tmp_path, "a", follow=True)
    shown = capsys.readouterr()
    assert shown.out == "output of rank 0\n"
    assert shown.err == "a is waiting: Resources\nrank 1 failed first: --rank 1 shows its log\n"


def test_a_job_that_continues_another_is_followed_too(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "logs" / "a" / "8" / "8_0_log.out"
    later.parent.mkdir()
    later.write_text("second job\n")
    task = manifest.stages["a"].tasks[0].model_copy(update={"later_jobs": ("8",)})
    chain = manifest.model_copy(update={"stages": {"a": SubmittedStage(job="8", tasks=(task,))}})
    queues = iter([{"7": QueuedJob("RUNNING", "")}, {"8": QueuedJob("RUNNING", "")}, {}])
    monkeypatch.setattr(client, "queue", lambda: next(queues))
    monkeypatch.setattr("time.sleep", lambda _: None)
    records.append_event(task.folder, "start", job="7", step=0)
    records.append_event(task.folder, "stop", job="7", step=3)
    records.append_event(task.folder, "start", job="8", step=3)
    logs.show(chain, tmp_path, "a", follow=True)
    assert "second job" in capsys.readouterr().out
