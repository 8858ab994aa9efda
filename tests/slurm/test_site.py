"""What a site adds to a job's script: shell lines that load modules, and a container prefix."""

import sys
from pathlib import Path

import pytest
import yaml

from tests.support.slurm.launcher import TIMEOUT_S, Launcher

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
