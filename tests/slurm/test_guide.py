"""Every command in docs/slurm.md runs, its tables are complete, and its site file is valid."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from quell.configs import errors
from quell.slurm.stages import site_files
from quell.slurm.stages.schema import Resources, Stage
from quell.slurm.stages.site import Container, Site
from tests.support.slurm.launcher import ROOT, TIMEOUT_S, TINY, Launcher
from tests.support.slurm.trainers import Trainers

GUIDE, SITES = ((ROOT / "docs" / name).read_text("utf-8") for name in ("slurm.md", "sites.md"))
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
    "site.python": sys.executable,
}
"""Settings with which the shipped stages run in a second on the tests' nodes."""


def adapted(line: str, jobs: Launcher, folder: Path, site: Path) -> list[str]:
    """The arguments of `python slurm/submit.py` in a line of the guide, for the test's folders and a small run."""
    arguments = [str(folder) if word == "runs/progressive" else word for word in shlex.split(line)[2:]]
    arguments = [str(site) if word == "./site.yaml" else word for word in arguments]
    if arguments[0] != "--stages":
        return arguments
    settings = {**SMALL, "data.root": jobs.data}
    small = [word for key, value in settings.items() for word in ("--set", f"{key}={value}".replace("=None", "=null"))]
    only = ["--only", "warmup"] if "--local" in arguments else []
    return [*arguments, "--run-dir", str(folder), *small, *only]


def test_the_guide_shows_every_way_to_start_the_launcher() -> None:
    submissions = [line for line in COMMANDS if line.startswith("python slurm/submit.py ")]
    examples = [line.split()[1] for line in COMMANDS if line.startswith("sbatch ")]
    assert len(submissions) + len(examples) == len(COMMANDS) == 14
    assert sorted(examples) == sorted(f"slurm/examples/{file.name}" for file in (ROOT / "slurm/examples").iterdir())


@pytest.mark.xdist_group("slurm")
@pytest.mark.timeout(TIMEOUT_S)
def test_the_commands_of_the_guide_run(on_slurm: Launcher, tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text((ROOT / "configs" / "sites" / "plain.yaml").read_text("utf-8"))
    cluster_runs, local_runs = tmp_path / "cluster", tmp_path / "local"
    warmup, denoise = (Trainers(cluster_runs / stage) for stage in ("warmup", "denoise"))
    for stage in (warmup, denoise):
        stage.close_gate(0)  # the first until its status has been shown, the second until it has been cancelled
    open_gate = {"status": warmup.open_gate, "cancel": denoise.open_gate}
    outputs = []
    for line in COMMANDS:
        if line.startswith("python "):
            command = line.split("slurm/submit.py ")[1]
            folder = local_runs if "--local" in line else cluster_runs
            outputs.append(on_slurm.run(*adapted(line, on_slurm, folder, site)).out)
            open_gate.pop(command.split()[0], lambda: None)()
    _, local, _, status, logs, cancel, second_submission, _, watched, unfolded, as_json, log = outputs
    assert "== warmup: exit code 0" in local
    assert re.search(r"^denoise +\d+ +waiting", status, flags=re.MULTILINE)
    assert "finished: step 2 of 2" in logs, "the log is followed to its end"
    assert "cancelled: denoise, evaluation" in cancel
    assert re.search(r"^denoise: job \d+\nevaluation: job \d+$", second_submission, flags=re.MULTILINE)
    assert re.search(r"^evaluation +\d+ +finished", watched, flags=re.MULTILINE), "watched to the end"
    assert unfolded.count(" finished ") == 3 and "2/2" in unfolded
    assert {task["state"] for task in json.loads(as_json)["tasks"]} == {"finished"}
    assert log == logs


def test_the_tables_name_every_key_and_exit_code() -> None:
    for model, text in ((Site, SITES), (Stage, GUIDE), (Container, SITES)):
        for name, field in model.model_fields.items():
            assert re.search(rf"\b{field.alias or name}\b", text), f"{model.__name__}.{name}"
    assert {"nodes", "time_min", "grace_s"} <= set(Resources.model_fields)
    codes = {error.exit_code for error in errors.QuellError.__subclasses__()} | {0, 1, errors.EXIT_REQUEUE}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, flags=re.MULTILINE)} == codes


def test_the_page_about_sites_shows_the_shipped_files() -> None:
    shown = re.findall(r"\(`(configs/sites/\w+\.yaml)`\).*?```yaml\n(.*?)```", SITES, flags=re.DOTALL)
    assert {file for file, _ in shown} == {f"configs/sites/{file.name}" for file in site_files.FOLDER.glob("*.yaml")}
    for file, text in shown:
        lines = (ROOT / file).read_text("utf-8").splitlines(keepends=True)
        assert "".join(line for line in lines if not line.startswith("#")) == text, file


def test_the_dry_run_of_the_page_about_sites_shows_its_scripts(launcher: Launcher) -> None:
    (line,) = re.findall(r"^python .*$", SITES, flags=re.MULTILINE)
    out = launcher.run(*shlex.split(line)[2:], "--set", f"data.root={launcher.data}", "--set", "data.crop=32").out
    assert out.count("#!/bin/bash") == 3
