"""Scripts of one's own: plain sbatch with srun, and with accelerate's launcher, over two nodes on CPU."""

import os
import sys
from pathlib import Path

import pytest

from tests.support.slurm.cluster import Cluster
from tests.support.slurm.driver import GATE, ROOT, TIMEOUT_S, TINY, Launcher, wait_until, weights
from tests.support.slurm.trainers import Trainers

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

OPTIONS = ["--gpus-per-node=0", "--ntasks-per-node=1", "--cpus-per-task=1", "--time=30"]


def sbatch(jobs: Launcher, cluster: Cluster, script: str, run: Path) -> str:
    """Hand in an example; its job id."""
    train = [f"{key}={'null' if value is None else value}".replace(" ", "") for key, value in TINY.items()]
    words = ["--config", "configs/progressive_training.yaml", "--run-dir", str(run), f"data.root={jobs.data}", *train]
    path = f"PATH={Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as an activated environment has it
    export = f"--export=ALL,ACCELERATE_USE_CPU=true,PROCESSES_PER_NODE=1,PYTHONPATH={GATE},{path}"
    log = f"--output={run}.log"
    example = str(ROOT / "slurm" / "examples" / script)
    return cluster.run("sbatch", f"--chdir={ROOT}", *OPTIONS, export, log, example, *words).split()[-1]


def state(cluster: Cluster, job: str) -> str:
    return cluster.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")


def said(cluster: Cluster, jobs: dict[str, str], runs: dict[str, Path]) -> str:
    """How the examples stand and what they printed."""
    logs = {script: Path(f"{run}.log") for script, run in runs.items()}
    printed = {script: log.read_text() if log.exists() else "nothing" for script, log in logs.items()}
    return "\n".join(f"{script}: {state(cluster, jobs[script])}\n{printed[script]}" for script in jobs)


def test_both_examples_train_on_two_nodes_to_the_same_weights(on_slurm: Launcher, cluster: Cluster) -> None:
    runs = {script: on_slurm.folder / script for script in ("srun.sbatch", "accelerate.sbatch")}
    trainers = Trainers(runs["srun.sbatch"])
    trainers.wait_after()
    jobs = {script: sbatch(on_slurm, cluster, script, run) for script, run in runs.items()}
    with trainers.held(lambda: said(cluster, jobs, runs)):
        cluster.run("scancel", "--signal=USR2", jobs["srun.sbatch"])
        trainers.wait_told()

    def done() -> bool:
        cluster.start_requeued()
        return {state(cluster, job) for job in jobs.values()} == {"COMPLETED"}

    # a job that requeues itself is seen as failed for a moment: only the last state counts
    wait_until(done, lambda: said(cluster, jobs, runs), pause_s=0.3)
    assert weights(runs["srun.sbatch"]) == weights(runs["accelerate.sbatch"])
    assert "resuming" in Path(f"{runs['srun.sbatch']}.log").read_text()
