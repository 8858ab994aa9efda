"""Every command of docs/slurm.md is run, its tables hold what the code has, and its site file is a site file."""

import re
import shlex
from pathlib import Path

import pytest

from configs import errors, loader
from slurm.stages.schema import Resources, Site, Stage
from tests.support.slurm.driver import ROOT, TIMEOUT_S, TINY, Launcher
from tests.support.slurm.trainers import Trainers

GUIDE = (ROOT / "docs" / "slurm.md").read_text("utf-8")
COMMANDS = re.findall(r"^(?:python|sbatch) .*$", GUIDE, flags=re.MULTILINE)

SMALL = {
    **TINY,
    "loop.max_steps": 2,
    "resources.gpus_per_node": 0,
    "resources.memory_gib": 1,
    "resources.cpus_per_task": 1,
    "resources.time_min": 30,
    "site.partition": "main",
    "site.setup": [],
}
"""How the shipped stages are made to run in a second on the test's nodes."""


def words(line: str, jobs: Launcher, folder: Path, site: Path) -> list[str]:
    """A command's words after `python slurm/submit.py`, small, with the test's folders in place of the guide's."""
    given = [str(folder) if word == "runs/progressive" else word for word in shlex.split(line)[2:]]
    given = [str(site) if word == "site.yaml" else word for word in given]
    if given[0] != "--stages":
        return given
    settings = {**SMALL, "data.root": jobs.data}
    small = [word for key, value in settings.items() for word in ("--set", f"{key}={value}".replace("=None", "=null"))]
    return [*given, "--run-dir", str(folder), *small, *(["--only", "warmup"] if "--local" in given else [])]


def test_the_guide_shows_every_way_to_start_the_launcher() -> None:
    submits = [line for line in COMMANDS if line.startswith("python slurm/submit.py ")]
    examples = [line.split()[1] for line in COMMANDS if line.startswith("sbatch ")]
    assert len(submits) + len(examples) == len(COMMANDS) == 9
    assert sorted(examples) == sorted(f"slurm/examples/{file.name}" for file in (ROOT / "slurm/examples").iterdir())


@pytest.mark.xdist_group("slurm")
@pytest.mark.timeout(TIMEOUT_S)
def test_the_commands_of_the_guide_run(on_slurm: Launcher, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(_block("yaml"))
    cluster, here = tmp_path / "cluster", tmp_path / "local"
    warmup, denoise = (Trainers(cluster / stage) for stage in ("warmup", "denoise"))
    for stage in (warmup, denoise):
        stage.wait_after(0)  # the first until its status has been looked at, the second until it has been cancelled
    said = {}
    for line in COMMANDS:
        if line.startswith("python "):
            command = line.split("slurm/submit.py ")[1]
            folder = here if "--local" in line else cluster
            said[command] = on_slurm.run(*words(line, on_slurm, folder, site)).out
            {"status": warmup.go_on, "cancel": denoise.go_on}.get(command.split()[0], lambda: None)()
    local, status, logs, cancel, again = list(said.values())[1:2] + list(said.values())[3:]
    assert "== warmup: exit code 0" in local
    assert re.search(r"^denoise +\d+ +waiting", status, flags=re.MULTILINE)
    assert "finished: step 2 of 2" in logs, "followed to its end"
    assert "cancelled: denoise, evaluation" in cancel
    assert re.search(r"^denoise: job \d+\nevaluation: job \d+$", again, flags=re.MULTILINE)
    on_slurm.run("cancel", cluster)


def test_the_tables_name_every_key_and_exit_code() -> None:
    for model in (Site, Stage):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}`" in GUIDE, f"{model.__name__}.{name}"
    assert {"nodes", "time_min", "grace_s"} <= set(Resources.model_fields)
    codes = {error.exit_code for error in errors.QuellError.__subclasses__()} | {0, 1, errors.EXIT_REQUEUE}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, flags=re.MULTILINE)} == codes
    Site.model_validate(loader.parse(_block("yaml")))


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    assert found
    return found[1]
