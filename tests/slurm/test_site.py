"""What a site adds to a job's script: shell lines that load modules, and a container prefix."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.support.slurm.cluster import GPU_TYPE
from tests.support.slurm.launcher import TIMEOUT_S, Launcher, weights

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(TIMEOUT_S)]

MODULES = """
module() { export LOADEDMODULES="$2"; }
export PATH="{folder}:$PATH"
"""
"""`module` is a shell function, as on a cluster; what it exports has to reach the job."""

APPTAINER = """#!/bin/sh
[ "$1 $2" = "exec --nv" ] || exit 9
export INSIDE="$3" PATH="{python}:$PATH"
shift 3
exec "$@"
"""
"""Runs the command on the host, with the tests' interpreter in place of the image's."""


def test_modules_and_a_container_reach_the_job(on_slurm: Launcher, tmp_path: Path) -> None:
    """With stand-ins for both, the job runs python inside the container, with the module loaded."""
    tmp_path.chmod(0o755)
    (tmp_path / "modules.sh").write_text(MODULES.replace("{folder}", str(tmp_path)))
    (tmp_path / "apptainer").write_text(APPTAINER.replace("{python}", str(Path(sys.executable).parent)))
    (tmp_path / "apptainer").chmod(0o755)
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({
        "setup": [f". {tmp_path}/modules.sh", "module load cuda/12.4"], "container": "apptainer exec --nv quell.sif",
        "environment": {"GREETING": "two words"},
    }))  # fmt: skip
    variables = ("INSIDE", "LOADEDMODULES", "GREETING")
    stage = {"command": ["-c", f"import os; print(*[os.environ[name] for name in {variables}])"]}
    on_slurm.submit(on_slurm.stage_file("site", {"inside": stage}), "--site", site)
    on_slurm.wait_for("site", "inside", "finished", "failed")
    assert "quell.sif cuda/12.4 two words" in on_slurm.log("site", "inside")


@pytest.mark.parametrize("gpus", ["gres", "gpus-per-task"])
def test_however_gpus_are_asked_for_each_rank_sees_those_of_its_node(on_slurm: Launcher, gpus: str) -> None:
    if not (on_slurm.cluster and on_slurm.cluster.gpus):
        pytest.skip("only root can create the device files that stand in for GPUs")
    variables = ("RANK", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES")
    stage = {
        "command": ["-c", f"import os; print(*[os.environ[name] for name in {variables}])"],
        "resources": {"gpus_per_node": 2, "gpu_type": GPU_TYPE, "memory_gib": 1},
    }
    memory = "mem-per-cpu" if gpus == "gres" else "mem-per-gpu"
    name = f"by-{gpus}"
    on_slurm.submit(on_slurm.stage_file(name, {"gpus": stage}, site={"gpus": gpus, "memory": memory}))
    on_slurm.wait_for(name, "gpus", "finished", "failed")
    log = on_slurm.log(name, "gpus").splitlines()
    assert sorted(line for line in log if line.endswith("0,1")) == ["0 0 0,1", "1 1 0,1"], log


def test_srun_gets_the_options_of_site_and_stage(on_slurm: Launcher) -> None:
    stage = {
        "command": ["-c", "import os; print(os.environ['SLURM_JOB_NAME'], os.environ['GREETING'])"],
        "resources": {"srun": ["--export=ALL,GREETING=hello"]},
    }
    on_slurm.submit(on_slurm.stage_file("srun", {"a": stage}, site={"srun": ["--job-name=$SLURM_JOB_PARTITION"]}))
    on_slurm.wait_for("srun", "a", "finished", "failed")
    assert "main hello" in on_slurm.log("srun", "a")


def test_shards_copied_to_each_node_train_the_same_weights(on_slurm: Launcher, tmp_path: Path) -> None:
    """Once for each node, into a folder that is named after it here, and gone when the job has ended."""
    tmp_path.chmod(0o755)
    train = {"config": "configs/cross_no_skip.yaml", "resources": {"nodes": 2}}
    cache = {"data.cache.copy_local": True, "data.cache.folder": f"{tmp_path}/$SLURMD_NODENAME"}
    copied = {**train, "overrides": cache}
    watcher = f"import os; print('copies:', os.listdir({str(tmp_path)!r}))"
    stages = {"shared": train, "copied": copied, "after": {"command": ["-c", watcher], "after": ["copied"]}}
    on_slurm.submit(on_slurm.stage_file("copies", stages, overrides={"loop.max_steps": 3}))
    for stage in ("shared", "after"):
        on_slurm.wait_for("copies", stage, "finished", "failed", "skipped")
    runs = on_slurm.runs("copies")
    assert weights(runs / "copied") == weights(runs / "shared")
    assert "copies: []" in on_slurm.log("copies", "after")


NOT_STARTED = {
    "setup": ({"setup": ["echo no such module >&2; false"]}, "the site's setup failed with exit code 1: echo no such"),
    "python": ({"python": "/nowhere/python"}, "/nowhere/python: not found"),
}
"""Site settings with which Python never starts, and what status has to say."""


@pytest.mark.parametrize("fault", NOT_STARTED)
def test_what_ended_a_job_before_python_is_in_the_status(on_slurm: Launcher, fault: str) -> None:
    settings, says = NOT_STARTED[fault]
    name = f"not-started-{fault}"
    on_slurm.submit(on_slurm.stage_file(name, {"a": {"command": ["-c", "pass"]}}, site=settings))
    assert says in on_slurm.wait_for(name, "a", "failed", "finished")
