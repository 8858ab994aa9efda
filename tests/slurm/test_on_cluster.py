"""Stages on a real SLURM of four virtual nodes: chains, interruptions of every kind, failures, sweeps.

Everything is submitted at once and disturbed as soon as it trains; the tests then check the outcome.
"""

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quell.configs import loader
from quell.slurm.node import records
from tests.support.runs import read_events, read_summary
from tests.support.slurm.campaign import CHAIN, EVERYTHING, GPUS, INTERRUPTED, NAME, STEPS
from tests.support.slurm.launcher import TIMEOUT_S, Launcher, steps_logged, wait_until, weights
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

DETECTION_BY_TIMEOUT_S = 280
"""What a rank would take at least to learn of another's death by gloo's timeout alone, five minutes here."""


def preempt(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Submit a job of higher priority to the same node."""
    assert jobs.cluster
    node = jobs.cluster.names[-1]
    command = ["sbatch", "--partition=high", f"--nodelist={node}", "--cpus-per-task=4", "--output=/dev/null"]
    jobs.cluster.run(*command, "--wrap", "sleep 1")
    trainers.wait_for_signal()


def shorten(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Move the time limit closer than the stage's grace_s; once the run is signalled, the job gets its time back."""
    assert jobs.cluster
    jobs.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={_elapsed_min(jobs, job) + 2}")
    trainers.wait_for_signal()
    jobs.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")


def requeue(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Requeue the job, as an administrator would."""
    assert jobs.cluster
    jobs.cluster.run("scontrol", "requeue", job)
    trainers.wait_for_signal()


def drain(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Drain the node and requeue its job, as an administrator would; the node returns once the job runs again."""
    assert jobs.cluster
    node = f"NodeName={history(jobs, 'drained')[0]['node']}"
    jobs.cluster.run("scontrol", "update", node, "State=DRAIN", "Reason=maintenance")
    try:
        requeue(jobs, trainers, job)
        trainers.resume()
        wait_until(lambda: started_again(jobs, "drained"), lambda: "no start on another node")
    finally:
        jobs.cluster.run("scontrol", "update", node, "State=RESUME")


def signal_one_rank(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Send a stop signal to a single rank that is not the first."""
    trainers.ranks()[1].send_signal(signal.SIGUSR1)


def kill_one_rank(jobs: Launcher, trainers: Trainers, job: str) -> None:
    """Kill a rank; the other one resumes only once that is recorded, or it might be taken for the first to fail."""
    trainers.ranks()[1].kill()
    wait_until((jobs.runs(NAME) / "jobs" / "bad" / "failure-1.json").exists, lambda: "no record of the dead rank")


DISTURBANCES = {
    "preempted": preempt,
    "timed": shorten,
    "requeued": requeue,
    "drained": drain,
    "warmup": signal_one_rank,
    "bad": kill_one_rank,
}


@pytest.fixture(scope="module")
def campaign(on_slurm: Launcher) -> Launcher:
    """Everything submitted at once, every disturbance in the middle of training."""
    assert on_slurm.cluster
    gpus = {"gpus": GPUS} if on_slurm.cluster.gpus else {}
    for stage in DISTURBANCES:
        Trainers(on_slurm.runs(NAME) / stage).close_gate()
    on_slurm.submit(on_slurm.stage_file(NAME, {**EVERYTHING, **gpus}))
    with ThreadPoolExecutor(len(DISTURBANCES)) as threads:
        for disturbance in [threads.submit(disturb, on_slurm, stage) for stage in DISTURBANCES]:
            disturbance.result()
    return on_slurm


def disturb(jobs: Launcher, stage: str) -> None:
    """Wait until a stage trains, hold its processes, and disturb its job as planned."""
    trainers = Trainers(jobs.runs(NAME) / stage)
    with trainers.held(lambda: jobs.status(NAME)[stage]):
        DISTURBANCES[stage](jobs, trainers, jobs.job(NAME, stage))


@pytest.mark.parametrize("stage", sorted(INTERRUPTED))
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(campaign: Launcher, stage: str) -> None:
    for name in (stage, "sweep.0.0003"):
        campaign.wait_for(NAME, name, "finished")
    runs = campaign.runs(NAME)
    assert weights(runs / stage) == weights(runs / "sweep" / "0.0003")
    assert steps_logged(runs / stage) == STEPS, "events without gaps or repetitions"
    events = history(campaign, stage)
    assert [event["event"] for event in events if event["event"] != "stop"].count("start") == 2
    assert {event["job"] for event in events} == {campaign.job(NAME, stage)}, "the same job"
    assert 0 < events[-2]["step"] < len(STEPS), "stopped in the middle, and resumed from there"


def test_a_job_of_a_drained_node_resumes_on_another_one(campaign: Launcher) -> None:
    campaign.wait_for(NAME, "drained", "finished")
    first, second = nodes(campaign, "drained")
    assert first != second


def test_tensorboard_events_have_no_gaps_after_a_requeue(campaign: Launcher) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    campaign.wait_for(NAME, "timed", "finished")
    board = EventAccumulator(str(campaign.runs(NAME) / "timed" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/loss_denoiser")] == STEPS


def test_a_chain_stopped_on_one_rank_resumes_and_equals_a_local_run(campaign: Launcher, tmp_path: Path) -> None:
    local = Launcher(tmp_path, campaign.data, None)
    file = local.stage_file("chain", CHAIN)
    local.submit(file, "--local")
    assert local.submit(file, "--local").out.count("finished, kept") == 2
    campaign.wait_for(NAME, "denoise", "finished")
    for stage in CHAIN:
        assert weights(local.runs("chain") / stage) == weights(campaign.runs(NAME) / stage)
    events = history(campaign, "warmup")
    assert [event["event"] for event in events] == ["start", "stop", "start", "end"]
    assert events[1]["code"] == 75 and events[2]["step"] == events[1]["step"] > 0, "no step was lost"
    assert {event["job"] for event in events} == {campaign.job(NAME, "warmup")}, "dependent jobs stay valid"


def test_the_chain_runs_to_its_evaluation_and_stage_2_starts_from_the_named_parts(campaign: Launcher) -> None:
    campaign.wait_for(NAME, "evaluation", "finished")
    runs = campaign.runs(NAME)
    assert json.loads((runs / "evaluation" / "report.json").read_text())
    log = campaign.log(NAME, "denoise")
    assert f"starting from encoder, decoder_a of {runs / 'warmup' / 'checkpoints'}" in log
    started = read_events(runs / "warmup")[0]
    assert (started["event"], started["world"]) == ("start", 2), "one process group over two nodes"


def test_a_dead_rank_ends_the_job_and_is_named_and_later_stages_have_the_reason(campaign: Launcher) -> None:
    line = campaign.wait_for(NAME, "bad", "failed")
    assert re.search(r"rank 1 on 127\.0\.0\.\d, killed by SIGKILL", line), line
    assert "because bad did not finish" in campaign.wait_for(NAME, "never", "skipped")
    campaign.wait_for(NAME, "cleanup", "finished")
    assert "cleaned up" in campaign.log(NAME, "cleanup")
    end = history(campaign, "bad")[-1]
    died = json.loads((campaign.runs(NAME) / "jobs" / "bad" / "failure-1.json").read_text())["time"]
    assert end["event"] == "end" and end["time"] - died < DETECTION_BY_TIMEOUT_S


def test_a_sweep_runs_as_an_array_and_later_stages_use_its_best_member(campaign: Launcher) -> None:
    campaign.wait_for(NAME, "report", "finished")
    sweep = campaign.runs(NAME)
    choice = json.loads((sweep / "best" / "choice.json").read_text())
    psnr = {member: read_summary(sweep / "sweep" / member)["metrics"]["psnr"] for member in ("0.0003", "1e-09")}
    assert choice["winner"] == max(psnr, key=lambda member: psnr[member])
    config = loader.load(sweep / "longer" / "config.yaml")
    assert config.init_from and config.init_from.run == choice["run"]
    assert config.optimizer.lr == float(choice["winner"])
    jobs = {task["job"] for task in campaign.manifest(NAME)["stages"]["sweep"]["tasks"]}
    assert jobs == {f"{campaign.job(NAME, 'sweep')}_{index}" for index in (0, 1)}
    assert str(sweep / "sweep" / "0.0003") in campaign.log(NAME, "report")


def test_members_of_an_array_are_requeued_one_by_one(campaign: Launcher) -> None:
    job = campaign.job(NAME, "restarted")
    for index, member in enumerate(("0.0003", "1e-09")):
        campaign.wait_for(NAME, f"restarted.{member}", "finished")
        events = history(campaign, f"restarted.{member}")
        assert [(event["event"], event["job"]) for event in events] == [
            (event, f"{job}_{index}") for event in ("start", "stop", "start", "end")
        ]


def test_a_job_has_one_task_for_each_gpu_and_each_sees_the_gpus_of_its_node(campaign: Launcher) -> None:
    if not (campaign.cluster and campaign.cluster.gpus):
        pytest.skip("only root can create the device files that stand in for GPUs")
    campaign.wait_for(NAME, "gpus", "finished")
    log = campaign.log(NAME, "gpus").splitlines()
    assert {line for line in log if line.endswith("0,1")} == {"0 0 4 0,1", "1 1 4 0,1", "2 0 4 0,1", "3 1 4 0,1"}


def test_submitting_again_keeps_finished_stages_and_repeats_failed_ones(campaign: Launcher) -> None:
    campaign.wait_for(NAME, "cleanup", "finished")
    file, trainers = campaign.folder / f"{NAME}.yaml", Trainers(campaign.runs(NAME) / "bad")
    trainers.close_gate()
    second = campaign.submit(file, "--from", "bad")
    job = campaign.job(NAME, "bad")
    assert f"bad: job {job}" in second.out and "cleanup: finished, kept" in second.out
    third = campaign.submit(file, "--from", "bad")
    assert f"bad: in the queue as job {job}, kept" in third.out, "a stage in the queue is not submitted twice"
    campaign.wait_for(NAME, "report", "finished")
    assert "cancelled: bad, never" in campaign.run("cancel", campaign.runs(NAME)).out
    fourth = campaign.submit(file, "--from", "bad")
    assert campaign.job(NAME, "bad") != job, "a cancelled job that has not ended does not count as in the queue"
    assert f"bad: job {campaign.job(NAME, 'bad')}" in fourth.out
    assert "cancelled: bad, never" in campaign.run("cancel", campaign.runs(NAME)).out
    trainers.open_gate()
    campaign.wait_for(NAME, "bad", "cancelled")
    assert campaign.wait_for(NAME, "never", "cancelled", "skipped")
    wait_until(lambda: _state(campaign, job) == "", lambda: f"job {job} is still there: {_state(campaign, job)}")


def history(jobs: Launcher, stage: str) -> list[records.Event]:
    return records.history(jobs.runs(NAME) / "jobs" / stage)


def nodes(jobs: Launcher, stage: str) -> list[str]:
    """The node of each start of a stage's job."""
    return [event["node"] for event in history(jobs, stage) if event["event"] == "start"]


def started_again(jobs: Launcher, stage: str) -> bool:
    """Whether the second start of a stage's job has begun; skips SLURM's delay of requeued jobs."""
    assert jobs.cluster
    jobs.cluster.start_requeued()
    return len(nodes(jobs, stage)) == 2


def _state(jobs: Launcher, job: str) -> str:
    assert jobs.cluster
    return jobs.cluster.run("squeue", "-h", "-j", job, "-o", "%T")


def _elapsed_min(jobs: Launcher, job: str) -> int:
    assert jobs.cluster
    elapsed = jobs.cluster.run("squeue", "-h", "-j", job, "-o", "%M").replace("-", ":").split(":")
    return int(elapsed[-2]) + 60 * int(elapsed[-3] if len(elapsed) > 2 else 0)
