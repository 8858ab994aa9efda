"""Clusters as they are: requeues during start-up, no requeueing at all, nodes that fail, GPUs that are missing."""

import re
import shutil
from functools import partial
from pathlib import Path

import pytest

from quell.slurm.node import records
from tests.support.slurm.campaign import SINGLE
from tests.support.slurm.launcher import TIMEOUT_S, Launcher, wait_until, weights
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

NAME = "rough"
REQUEUES = 3
FAIL_ON_FIRST_NODE = (
    "import os, pathlib, sys; node = os.environ['SLURMD_NODENAME']; bad = pathlib.Path(sys.argv[1], 'bad'); "
    "bad.exists() or bad.write_text(node); "
    "sys.exit('RuntimeError: CUDA error: uncorrectable ECC error encountered' if bad.read_text() == node else 0)"
)
STAGES = {
    "early": SINGLE,
    "undisturbed": SINGLE,
    "chained": {**SINGLE, "continue": {"starts": 4}},
    "after": {"command": ["-c", "print('last')"], "after": ["chained"]},
    "moved": {"command": ["-c", FAIL_ON_FIRST_NODE, "{here}"], "max_bad_nodes": 8},
}


@pytest.fixture(scope="module")
def rough(on_slurm: Launcher) -> Launcher:
    """The stages, submitted, with the first one requeued whenever it starts and the chain stopped and killed."""
    trainers = Trainers(on_slurm.runs(NAME) / "chained")
    trainers.close_gate()
    data = on_slurm.folder / "vanishing"
    shutil.copytree(on_slurm.data, data)
    no_data = {**SINGLE, "overrides": {"data.root": str(data)}, "continue": {"starts": 3}}
    on_slurm.submit(on_slurm.stage_file(NAME, {**STAGES, "no_data": no_data}))
    shutil.rmtree(data)
    assert on_slurm.cluster
    for number in range(1, REQUEUES + 1):
        wait_until(partial(has_started, on_slurm, "early", number), lambda: str(on_slurm.status(NAME)))
        on_slurm.cluster.run("scontrol", "requeue", on_slurm.job(NAME, "early"))
    first, second = chain(on_slurm)[:2]
    with trainers.held(lambda: on_slurm.status(NAME)["chained"]):
        on_slurm.cluster.run("scancel", "--signal=USR2", first)
        trainers.wait_for_signal()
    wait_until(lambda: second in jobs_started(on_slurm), lambda: on_slurm.status(NAME)["chained"])
    on_slurm.cluster.run("scancel", "--signal=KILL", second)
    return on_slurm


def history(jobs: Launcher, stage: str) -> list[records.Event]:
    return records.history(jobs.runs(NAME) / "jobs" / stage)


def has_started(jobs: Launcher, stage: str, times: int) -> bool:
    """Whether a stage's job has started so often; skips SLURM's delay of requeued jobs."""
    assert jobs.cluster
    jobs.cluster.start_requeued()
    return sum(event["event"] == "start" for event in history(jobs, stage)) == times


def chain(jobs: Launcher) -> list[str]:
    (task,) = jobs.manifest(NAME)["stages"]["chained"]["tasks"]
    return [task["job"], *task["later_jobs"]]


def jobs_started(jobs: Launcher) -> list[str]:
    return [event["job"] for event in history(jobs, "chained") if event["event"] == "start"]


def test_requeues_during_start_up_never_end_a_job(rough: Launcher) -> None:
    for stage in ("early", "undisturbed"):
        rough.wait_for(NAME, stage, "finished")
    events = history(rough, "early")
    assert sum(event["event"] == "start" for event in events) == REQUEUES + 1
    assert {event.get("outcome", "interrupted") for event in events[:-1]} == {"interrupted"}
    assert weights(rough.runs(NAME) / "early") == weights(rough.runs(NAME) / "undisturbed")


def test_jobs_that_continue_one_another_end_with_the_weights_of_one(rough: Launcher) -> None:
    line = rough.wait_for(NAME, "chained", "finished")
    assert line.split()[1] in chain(rough)
    rough.wait_for(NAME, "after", "finished")
    rough.wait_for(NAME, "undisturbed", "finished")
    assert weights(rough.runs(NAME) / "chained") == weights(rough.runs(NAME) / "undisturbed")
    first, second, third, _ = chain(rough)
    assert jobs_started(rough) == [first, second, third], "the fourth found the run finished"
    assert "job 1 of 4; the next one continues" in [event.get("reason") for event in history(rough, "chained")]
    assert f"nothing to do: job {third} ended with exit code 0" in rough.log(NAME, "chained")
    assert list(rough.status(NAME)) == [*STAGES, "no_data"], "one row for each stage"


def test_a_chain_ends_with_a_failure_that_would_repeat_itself(rough: Launcher) -> None:
    line = rough.wait_for(NAME, "no_data", "failed")
    assert "no shards at" in line
    assert sum(event["event"] == "start" for event in history(rough, "no_data")) == 1


def test_a_job_leaves_a_node_that_fails_it(rough: Launcher) -> None:
    rough.wait_for(NAME, "moved", "finished")
    nodes = [event["node"] for event in history(rough, "moved") if event["event"] == "start"]
    # `start_requeued` skips SLURM's delay, so that the job may be on its way to the same node before it is excluded
    assert {*nodes[:-1]} == {nodes[0]} != {nodes[-1]}, nodes
    assert f"{nodes[0]}: CUDA error: uncorrectable ECC error encountered: requeueing" in rough.log(NAME, "moved")


def test_a_stage_that_asks_for_gpus_does_not_train_on_cpus(on_slurm: Launcher, tmp_path: Path) -> None:
    if not (on_slurm.cluster and on_slurm.cluster.gpus):
        pytest.skip("only root can create the device files that stand in for GPUs")
    stage = {**SINGLE, "resources": {"gpus_per_node": 2}, "max_bad_nodes": 0}
    on_slurm.submit(on_slurm.stage_file("gpus", {"train": stage}))
    line = on_slurm.wait_for("gpus", "train", "failed", "finished")
    assert re.search(r"rank \d on 127\.0\.0\.\d, exit code 6: .*error: this stage asks for GPUs, but PyTorch", line), (
        line
    )


def test_a_stage_waits_for_a_job_that_is_no_stage(on_slurm: Launcher) -> None:
    assert on_slurm.cluster
    job = on_slurm.cluster.run("sbatch", "--hold", "--output=/dev/null", "--wrap", "true").split()[-1]
    stages = {"waits": {"command": ["-c", "print(1)"], "after": {"jobs": {job: "afterany"}}}}
    on_slurm.submit(on_slurm.stage_file("others", stages))
    assert on_slurm.wait_for("others", "waits", "waiting")
    on_slurm.cluster.run("scontrol", "release", job)
    on_slurm.wait_for("others", "waits", "finished")
