"""What points to a node in the output of a failed process, and what the job does about it."""

from pathlib import Path

import pytest

from quell.slurm.node import job, records
from quell.slurm.node.node_faults import node_fault
from quell.slurm.node.placement import RankPlacement
from quell.slurm.stages.task import Task


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", True),
        ("RuntimeError: CUDA error: unspecified launch failure", True),
        ("RuntimeError: No CUDA GPUs are available", True),
        ("error: this stage asks for GPUs, but PyTorch finds none on node n3 (CUDA_VISIBLE_DEVICES is )", True),
        ("error: /data/train/a.tar: Stale file handle: check the network and its file systems, and", True),
        ("OSError: [Errno 107] Transport endpoint is not connected: '/data'", True),
        ("RuntimeError: CUDA error: device-side assert triggered", False),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("error: this stage asks for GPUs, but PyTorch 2.13.0+cpu was built without CUDA support: install", False),
        ("error: no shards at /data/train", False),
        ("RuntimeError: [gloo/transport/tcp/pair.cc] Connection closed by peer [10.0.0.3]:41", False),
    ],
)
def test_faults_of_nodes_are_told_from_those_of_programs(line: str, fault: bool) -> None:
    assert bool(node_fault(["Traceback", line, ""])) is fault


SCONTROL = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = show ] && echo "JobId=7 JobState={state} Requeue=1 ExcNodeList={excluded}"
exit 0
"""


def stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, state: str = "RUNNING", excluded: str = "(null)"
) -> Path:
    """Put a scontrol on the PATH that records how it is called; that file."""
    log, program = tmp_path / "calls", tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(SCONTROL.format(log=log, state=state, excluded=excluded))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr("quell.slurm.node.endings._SLURM_ENDS_US_S", 0)
    return log


def failing_task(tmp_path: Path, *, max_bad_nodes: int = 2, starts: int = 1) -> Task:
    code = "import sys; sys.exit('RuntimeError: CUDA error: uncorrectable ECC error encountered')"
    task = Task(
        stage="some", kind="train", arguments=("-c", code), run_dir=str(tmp_path / "run"),
        folder=str(tmp_path / "jobs"), code=str(tmp_path), max_requeues=5, max_bad_nodes=max_bad_nodes, starts=starts,
    )  # fmt: skip
    task.write()
    return task


def test_a_job_leaves_a_bad_node_at_most_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(tmp_path, monkeypatch, excluded="n9")
    task = failing_task(tmp_path)
    for node in ("n1", "n2"):
        assert job.run(task, RankPlacement("7", 0, node, {})) == 0
    left = [event for event in records.history(task.folder) if "excluded" in event]
    assert [(event["event"], event["excluded"]) for event in left] == [("stop", "n1"), ("stop", "n2")]
    assert left[0]["reason"].startswith("n1: CUDA error: uncorrectable ECC error")
    assert "requeue 7\nshow job -o 7\nupdate JobId=7 ExcNodeList=n9,n1\n" in calls.read_text()
    assert job.run(task, RankPlacement("7", 0, "n3", {})) == 1
    end = records.history(task.folder)[-1]
    assert (end["event"], end["code"], end["reason"]) == ("end", 1, "exit code 1"), "the limit is reached"


def test_the_rank_on_the_bad_node_sees_to_it_and_the_first_rank_keeps_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(tmp_path, monkeypatch)
    task = failing_task(tmp_path)
    job.run(task, RankPlacement("7", 0, "n1", {}))
    records.clear_failures(task.folder)
    calls.write_text("")
    records.append_event(task.folder, "start", job="7", step=0)
    assert job.run(task, RankPlacement("7", 1, "n2", {})) == 0
    assert job.run(task, RankPlacement("7", 2, "n2", {})) == 1, "another rank of that node has done it"
    assert calls.read_text().count("requeue") == 1


def test_a_job_that_cannot_be_requeued_fails_with_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, state="COMPLETING")
    task = failing_task(tmp_path)
    assert job.run(task, RankPlacement("7", 0, "n1", {})) == 1
    end = records.history(task.folder)[-1]
    assert end["event"] == "end" and "excluded" not in end
    assert "n1: CUDA error" in end["reason"] and "not requeued: SLURM itself is ending this job" in end["reason"]


def test_the_next_job_of_a_chain_avoids_the_node_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(tmp_path, monkeypatch)
    task = failing_task(tmp_path, starts=3)
    records.write_chain(task.folder, ["7", "8", "9"])
    assert job.run(task, RankPlacement("7", 0, "n1", {})) == 1
    assert "update JobId=8 ExcNodeList=n1\n" in calls.read_text() and "JobId=9" in calls.read_text()
    assert "requeue" not in calls.read_text()
    works = task.model_copy(update={"arguments": ("-c", "pass")})
    assert job.run(works, RankPlacement("8", 0, "n2", {})) == 0
    assert [event["job"] for event in records.history(task.folder)] == ["7", "7", "8", "8"]


def test_a_chain_ends_with_a_failure_that_would_repeat_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task = failing_task(tmp_path, starts=3).model_copy(update={"arguments": ("-c", "raise SystemExit(4)")})
    records.write_chain(task.folder, ["7", "8", "9"])
    codes = [job.run(task, RankPlacement(number, 0, "n1", {})) for number in ("7", "8", "9")]
    assert codes == [4, 4, 4] and len(records.starts(task.folder, "7")) == 1 and not records.starts(task.folder, "8")
    assert "nothing to do: job 7 ended with exit code 4 (exit code 4)" in capfd.readouterr().err


def test_a_chain_goes_on_after_a_stop_and_after_a_job_that_vanished(tmp_path: Path) -> None:
    task = failing_task(tmp_path, starts=3).model_copy(update={"arguments": ("-c", "raise SystemExit(75)")})
    records.write_chain(task.folder, ["7", "8", "9"])
    assert job.run(task, RankPlacement("7", 0, "n1", {})) == 75
    assert records.history(task.folder)[-1]["reason"] == "job 1 of 3; the next one continues"
    records.append_event(task.folder, "start", job="8", step=0)
    works = task.model_copy(update={"arguments": ("-c", "pass")})
    assert job.run(works, RankPlacement("9", 0, "n1", {})) == 0
    assert len(records.starts(task.folder, "9")) == 1
