"""The example scripts, plain srun and accelerate's launcher, on the CPUs of two nodes."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.slurm.cluster import Cluster
from tests.support.slurm.launcher import GATE, ROOT, TIMEOUT_S, TINY, Launcher, wait_until, weights
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

FAILED_FOR_GOOD = 60
"""Polls after which a failed job is not coming back: one that requeues itself looks failed for a moment."""
OPTIONS = ["--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30"]


def sbatch(jobs: Launcher, cluster: Cluster, script: str, run: Path) -> str:
    """Submit an example; its job id."""
    overrides = [f"{key}={'null' if value is None else value}".replace(" ", "") for key, value in TINY.items()]
    config = ["--config", "configs/progressive_training.yaml"]
    arguments = [*config, "--run-dir", str(run), f"data.root={jobs.data}", *overrides]
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    export = f"--export=ALL,ACCELERATE_USE_CPU=true,PROCESSES_PER_NODE=1,PYTHONPATH={GATE},{path}"
    log = f"--output={run}.log"
    example = str(ROOT / "slurm" / "examples" / script)
    return cluster.run("sbatch", f"--chdir={ROOT}", *OPTIONS, export, log, example, *arguments).split()[-1]


def state(cluster: Cluster, job: str) -> str:
    return cluster.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def describe(cluster: Cluster, jobs: dict[str, str], runs: dict[str, Path]) -> str:
    """The state of each example's job and what it printed."""
    logs = {script: Path(f"{run}.log") for script, run in runs.items()}
    output = {script: log.read_text() if log.exists() else "no log" for script, log in logs.items()}
    return "\n".join(f"{script}: {state(cluster, jobs[script])}\n{output[script]}" for script in jobs)


def test_both_examples_train_on_two_nodes_to_the_same_weights(on_slurm: Launcher, cluster: Cluster) -> None:
    runs = {script: on_slurm.folder / script for script in ("srun.sbatch", "accelerate.sbatch")}
    trainers = Trainers(runs["srun.sbatch"])
    trainers.close_gate()
    jobs = {script: sbatch(on_slurm, cluster, script, run) for script, run in runs.items()}
    with trainers.held(lambda: describe(cluster, jobs, runs)):
        cluster.run("scancel", "--signal=USR2", jobs["srun.sbatch"])
        trainers.wait_for_signal()

    failed_polls = dict.fromkeys(jobs.values(), 0)

    def done() -> bool:
        cluster.start_requeued()
        states = {job: state(cluster, job) for job in jobs.values()}
        for job, found in states.items():
            failed_polls[job] = failed_polls[job] + 1 if found == "FAILED" else 0
            assert failed_polls[job] < FAILED_FOR_GOOD, f"job {job} failed\n{describe(cluster, jobs, runs)}"
        return set(states.values()) == {"COMPLETED"}

    wait_until(done, lambda: describe(cluster, jobs, runs), pause_s=0.3)
    assert weights(runs["srun.sbatch"]) == weights(runs["accelerate.sbatch"])
    assert "resuming" in Path(f"{runs['srun.sbatch']}.log").read_text(encoding="utf-8")
