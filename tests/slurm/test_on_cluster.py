"""Stages on a real SLURM of four virtual nodes: chains, interruptions of every kind, failures, sweeps.

Everything is handed in at once and disturbed as soon as it trains; the tests then look at what came of it.
"""

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from configs import loader
from slurm.node import records
from tests.support.slurm.campaign import CHAIN, EVERYTHING, GPUS, INTERRUPTED, NAME, STEPS
from tests.support.slurm.driver import TIMEOUT_S, Launcher, steps_logged, wait_until, weights
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

WAITED_IN_VAIN_S = 280
"""What a rank would take at least that learns of another's death by gloo's timeout alone, five minutes here."""


def preempt(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """A job of higher priority wants the node."""
    assert jobs.cluster
    node = jobs.cluster.names[-1]
    command = ["sbatch", "--partition=high", f"--nodelist={node}", "--cpus-per-task=4", "--output=/dev/null"]
    jobs.cluster.run(*command, "--wrap", "sleep 1")
    trainers.wait_told()


def shorten(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Move the time limit nearer than the stage's grace; once the run is told, the job gets its time back."""
    assert jobs.cluster
    jobs.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={_elapsed_min(jobs, job) + 2}")
    trainers.wait_told()
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")


def requeue(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """What an administrator does."""
    assert jobs.cluster
    jobs.cluster.run("scontrol", "requeue", job)
    trainers.wait_told()


def drain(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """An administrator takes the node out of service, and its job with it; the node comes back when the job runs."""
    assert jobs.cluster
    node = f"NodeName={history(jobs, 'drained')[0]['node']}"
    jobs.cluster.run("scontrol", "update", node, "State=DRAIN", "Reason=maintenance")
    try:
        requeue(jobs, trainers, job)
        trainers.thaw()
        wait_until(lambda: started_again(jobs, "drained"), lambda: "the start on another node")
    finally:
        jobs.cluster.run("scontrol", "update", node, "State=RESUME")


def tell_one_rank(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """A signal to a single rank that is not the first."""
    trainers.ranks()[1].send_signal(signal.SIGUSR1)


def kill_one_rank(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """A rank dies without a word; the other one is let go on when that is known, or might itself seem the first."""
    trainers.ranks()[1].kill()
    wait_until((jobs.runs(NAME) / "jobs" / "bad" / "failure-1.json").exists, lambda: "the note of the dead rank")


DISTURBANCES = {
    "preempted": preempt,
    "timed": shorten,
    "requeued": requeue,
    "drained": drain,
    "warmup": tell_one_rank,
    "bad": kill_one_rank,
}


@pytest.fixture(scope="module")
def campaign(on_slurm: Launcher) -> Launcher:
    """Everything handed in at once, every disturbance done in the middle of training."""
    assert on_slurm.cluster
    gpus = {"gpus": GPUS} if on_slurm.cluster.gpus else {}
    for stage in DISTURBANCES:
        Trainers(on_slurm.runs(NAME) / stage).wait_after()
    on_slurm.submit(on_slurm.stage_file(NAME, {**EVERYTHING, **gpus}))
    with ThreadPoolExecutor(len(DISTURBANCES)) as threads:
        for done in [threads.submit(disturb, on_slurm, stage) for stage in DISTURBANCES]:
            done.result()
    return on_slurm


def disturb(jobs: Launcher, stage: str) -> None:
    """Wait until a stage trains, hold its processes, and do to its job what is planned for it."""
    trainers = Trainers(jobs.runs(NAME) / stage)
    with trainers.held(lambda: jobs.status(NAME)[stage]):
        DISTURBANCES[stage](jobs, trainers, jobs.job(NAME, stage))


@pytest.mark.parametrize("stage", sorted(INTERRUPTED))
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(campaign: Launcher, stage: str) -> None:
    for name in (stage, "sweep.0.0003"):
        campaign.until(NAME, name, "finished")
    runs = campaign.runs(NAME)
    assert weights(runs / stage) == weights(runs / "sweep" / "0.0003")
    assert steps_logged(runs / stage) == STEPS, "events without gaps or repetitions"
    events = history(campaign, stage)
    assert [event["event"] for event in events if event["event"] != "stop"].count("start") == 2
    assert {event["job"] for event in events} == {campaign.job(NAME, stage)}, "the same job"
    assert 0 < events[-2]["step"] < len(STEPS), "stopped in the middle, and went on from there"


def test_a_job_of_a_drained_node_goes_on_at_another_one(campaign: Launcher) -> None:
    campaign.until(NAME, "drained", "finished")
    first, second = nodes(campaign, "drained")
    assert first != second


def test_tensorboard_goes_on_in_one_folder_without_gaps(campaign: Launcher) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    campaign.until(NAME, "timed", "finished")
    board = EventAccumulator(str(campaign.runs(NAME) / "timed" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss_denoiser")] == STEPS


def test_a_chain_told_to_stop_on_one_rank_goes_on_and_equals_a_local_run(campaign: Launcher, tmp_path: Path) -> None:
    local = Launcher(tmp_path, campaign.data, None)
    file = local.stage_file("chain", CHAIN)
    local.submit(file, "--local")
    assert local.submit(file, "--local").out.count("finished, kept") == 2
    campaign.until(NAME, "denoise", "finished")
    for stage in CHAIN:
        assert weights(local.runs("chain") / stage) == weights(campaign.runs(NAME) / stage)
    events = history(campaign, "warmup")
    assert [event["event"] for event in events] == ["start", "stop", "start", "end"]
    assert events[1]["code"] == 75 and events[2]["step"] == events[1]["step"] > 0, "no step was lost"
    assert {event["job"] for event in events} == {campaign.job(NAME, "warmup")}, "what waits for the job stays valid"


def test_the_chain_runs_to_its_evaluation_and_stage_2_starts_from_the_named_parts(campaign: Launcher) -> None:
    campaign.until(NAME, "evaluation", "finished")
    runs = campaign.runs(NAME)
    assert json.loads((runs / "evaluation" / "report.json").read_text())
    log = campaign.log(NAME, "denoise")
    assert f"starting from encoder, decoder_a of {runs / 'warmup' / 'checkpoints'}" in log
    started = json.loads((runs / "warmup" / "metrics.jsonl").read_text().splitlines()[0])
    assert (started["event"], started["world"]) == ("start", 2), "one world of two nodes"


def test_a_dead_rank_ends_the_job_with_its_name_and_what_comes_after_says_why(campaign: Launcher) -> None:
    line = campaign.until(NAME, "bad", "failed")
    assert re.search(r"rank 1 on 127\.0\.0\.\d, killed by SIGKILL", line), line
    assert "because bad did not finish" in campaign.until(NAME, "never", "skipped")
    campaign.until(NAME, "cleanup", "finished")
    assert "cleaned up" in campaign.log(NAME, "cleanup")
    end = history(campaign, "bad")[-1]
    died = json.loads((campaign.runs(NAME) / "jobs" / "bad" / "failure-1.json").read_text())["time"]
    assert end["event"] == "end" and end["time"] - died < WAITED_IN_VAIN_S


def test_a_sweep_runs_as_an_array_and_the_best_member_is_used_by_what_follows(campaign: Launcher) -> None:
    campaign.until(NAME, "report", "finished")
    sweep = campaign.runs(NAME)
    choice = json.loads((sweep / "best" / "choice.json").read_text())
    measured = {
        member: json.loads((sweep / "sweep" / member / "summary.json").read_text())["metrics"]["psnr"]
        for member in ("0.0003", "1e-09")
    }
    assert choice["winner"] == max(measured, key=lambda member: measured[member])
    config = loader.load(sweep / "longer" / "config.yaml")
    assert config.init_from and config.init_from.run == choice["run"]
    assert config.optimizer.lr == float(choice["winner"])
    jobs = {task["job"] for task in campaign.manifest(NAME)["stages"]["sweep"]["tasks"]}
    assert jobs == {f"{campaign.job(NAME, 'sweep')}_{index}" for index in (0, 1)}
    assert str(sweep / "sweep" / "0.0003") in campaign.log(NAME, "report")


def test_members_of_an_array_are_requeued_one_by_one(campaign: Launcher) -> None:
    job = campaign.job(NAME, "restarted")
    for index, member in enumerate(("0.0003", "1e-09")):
        campaign.until(NAME, f"restarted.{member}", "finished")
        events = history(campaign, f"restarted.{member}")
        assert [(event["event"], event["job"]) for event in events] == [
            (event, f"{job}_{index}") for event in ("start", "stop", "start", "end")
        ]


def test_a_job_has_one_task_for_each_gpu_and_each_sees_the_gpus_of_its_node(campaign: Launcher) -> None:
    if not (campaign.cluster and campaign.cluster.gpus):
        pytest.skip("only root can make the device files that stand for GPUs")
    campaign.until(NAME, "gpus", "finished")
    log = campaign.log(NAME, "gpus").splitlines()
    assert {line for line in log if line.endswith("0,1")} == {"0 0 4 0,1", "1 1 4 0,1", "2 0 4 0,1", "3 1 4 0,1"}


def test_submitting_again_keeps_what_is_finished_and_repeats_what_failed(campaign: Launcher) -> None:
    campaign.until(NAME, "cleanup", "finished")
    file, trainers = campaign.folder / f"{NAME}.yaml", Trainers(campaign.runs(NAME) / "bad")
    trainers.wait_after()
    again = campaign.submit(file, "--from", "bad")
    job = campaign.job(NAME, "bad")
    assert f"bad: job {job}" in again.out and "cleanup: finished, kept" in again.out
    third = campaign.submit(file, "--from", "bad")
    assert f"bad: in the queue as job {job}, kept" in third.out, "what is under way is not handed in twice"
    campaign.until(NAME, "report", "finished")
    assert "cancelled: bad, never" in campaign.run("cancel", campaign.runs(NAME)).out
    fourth = campaign.submit(file, "--from", "bad")
    assert campaign.job(NAME, "bad") != job, "a cancelled job that is still ending is not taken for one under way"
    assert f"bad: job {campaign.job(NAME, 'bad')}" in fourth.out
    assert "cancelled: bad, never" in campaign.run("cancel", campaign.runs(NAME)).out
    trainers.go_on()
    campaign.until(NAME, "bad", "cancelled")
    assert campaign.until(NAME, "never", "cancelled", "skipped")
    wait_until(lambda: _state(campaign, job) == "", lambda: f"job {job} is still there: {_state(campaign, job)}")


def history(jobs: Launcher, stage: str) -> list[dict[str, Any]]:
    return records.history(jobs.runs(NAME) / "jobs" / stage)


def nodes(jobs: Launcher, stage: str) -> list[str]:
    """The node of each start of a stage's job."""
    return [event["node"] for event in history(jobs, stage) if event["event"] == "start"]


def started_again(jobs: Launcher, stage: str) -> bool:
    """Whether the second start of a stage's job has begun; it need not wait for that longer than SLURM must."""
    assert jobs.cluster
    jobs.cluster.start_requeued()
    return len(nodes(jobs, stage)) == 2


def _state(jobs: Launcher, job: str) -> str:
    assert jobs.cluster
    return jobs.cluster.run("squeue", "-h", "-j", job, "-o", "%T")


def _elapsed_min(jobs: Launcher, job: str) -> int:
    assert jobs.cluster
    words = jobs.cluster.run("squeue", "-h", "-j", job, "-o", "%M").replace("-", ":").split(":")
    return int(words[-2]) + 60 * int(words[-3] if len(words) > 2 else 0)
