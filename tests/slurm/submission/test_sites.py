"""What a site's settings become in an sbatch script, and what is refused in a site file."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.configs.errors import ConfigError
from quell.configs.support.paths import ROOT
from quell.slurm.stages import plan, read, site_files
from quell.slurm.submission import executor, setup_lines
from quell.slurm.submission.executor import JobRequest

SHIPPED = sorted(site_files.FOLDER.glob("*.yaml"))
GPUS = {"nodes": 2, "gpus_per_node": 4, "memory_gib": 80, "cpus_per_task": 8}


def script(
    tmp_path: Path, site: str | Path | None, resources: dict[str, Any] | None = None, *, settings: Any = None
) -> str:
    """The sbatch script of one stage that runs at a site; `settings` are the stage file's own of the site."""
    file = tmp_path / "stages.yaml"
    stage = {"command": ["-c", "pass"], "resources": resources or {}}
    file.write_text(yaml.safe_dump({"stages": {"a": stage}, "site": settings or {}}))
    planned = plan.make(read.read(file, site=site), tmp_path / "runs")
    return executor.script(JobRequest(planned.stages["a"], planned.stages["a"].tasks, planned.site, planned.root))


def flags(text: str) -> set[str]:
    """The options of sbatch in a script."""
    return {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH --")}


def srun(text: str) -> str:
    """The line of a script that starts the tasks."""
    (line,) = [line for line in text.splitlines() if line.startswith("srun ")]
    return line


def site_file(tmp_path: Path, **settings: Any) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_site_is_found_by_its_name_from_any_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert script(tmp_path, file.stem, GPUS) == script(tmp_path, file, GPUS)
    monkeypatch.setenv(site_files.SITE_VARIABLE, file.stem)
    assert script(tmp_path, None, GPUS) == script(tmp_path, file, GPUS)


@pytest.mark.parametrize(
    ("site", "gpus"),
    [
        ({}, "gpus-per-node=4"),
        ({"gpu_type": "a100"}, "gpus-per-node=a100:4"),
        ({"gpus": "gres"}, "gres=gpu:4"),
        ({"gpus": "gres", "gpu_type": "a100"}, "gres=gpu:a100:4"),
        ({"gpus": "gpus-per-task", "gpu_type": "a100"}, "gpus-per-task=a100:1"),
    ],
    ids=str,
)
def test_gpus_are_asked_for_as_the_site_spells_them(site: dict[str, Any], gpus: str, tmp_path: Path) -> None:
    text = script(tmp_path, site_file(tmp_path, **site), GPUS)
    assert {flag for flag in flags(text) if flag.startswith(("gpus", "gres"))} == {gpus}
    assert ("unset SLURM_GPUS_PER_TASK" in text) == gpus.startswith("gpus-per-task"), "ranks see all GPUs of a node"
    without = script(tmp_path, site_file(tmp_path, **site), {})
    assert not [flag for flag in flags(without) if flag.startswith(("gpus", "gres"))]


@pytest.mark.parametrize(
    ("memory", "gpus", "expected"),
    [
        ("mem", 4, "mem=81920MB"),
        ("mem-per-gpu", 4, "mem-per-gpu=20480MB"),
        ("mem-per-cpu", 4, "mem-per-cpu=2560MB"),
        ("mem-per-gpu", 0, "mem=81920MB"),
    ],
)
def test_memory_is_asked_for_as_the_site_spells_it(memory: str, gpus: int, expected: str, tmp_path: Path) -> None:
    text = script(tmp_path, site_file(tmp_path, memory=memory), {**GPUS, "gpus_per_node": gpus})
    assert {flag for flag in flags(text) if flag.startswith("mem")} == {expected}


def test_every_option_of_a_job_comes_from_the_site_unless_the_stage_has_its_own(tmp_path: Path) -> None:
    site = {
        "partition": "gpu", "account": "lab", "qos": "long", "constraint": "ib", "reservation": "course",
        "exclude": "n[1-2]", "wckey": "mri", "nice": 10, "comment": "two words", "mail_user": "me@example.org",
        "mail_type": "END", "srun": ["--mpi=none"], "extra": {"exclusive": True, "switches": 1},
    }  # fmt: skip
    own = {"nice": 20, "mail_type": "FAIL", "srun": ["--cpu-bind=$BIND"], "extra": {"switches": 2}}
    text = script(tmp_path, site_file(tmp_path, **site), own)
    assert flags(text) >= {
        "partition=gpu", "account=lab", "qos=long", "constraint=ib", "reservation=course", "exclude='n[1-2]'",
        "wckey=mri", "nice=20", "comment='two words'", "mail-user=me@example.org", "mail-type=FAIL", "exclusive",
        "switches=2",
    }  # fmt: skip
    assert '--mpi=none "--cpu-bind=$BIND" ' in srun(text), "variables are replaced on the node"
    assert not [flag for flag in flags(script(tmp_path, None)) if flag.startswith("wckey")], "none unless it is given"


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("apptainer", "sh apptainer exec --nv --bind /a --bind {data}:/b:ro --bind {root} {checkout}--cleanenv "),
        ("singularity", "sh singularity exec --nv --bind /a --bind {data}:/b:ro --bind {root} {checkout}--cleanenv "),
    ],
)
def test_a_container_sees_the_folders_that_every_stage_needs(runtime: str, expected: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    container = {
        "runtime": runtime,
        "image": "$HOME/q.sif",
        "mounts": ["/a", f"{data}:/b:ro"],
        "options": ["--cleanenv"],
    }
    line = srun(script(tmp_path, site_file(tmp_path, container=container), GPUS))
    names = {"root": tmp_path / "runs", "data": data, "checkout": f"--bind {ROOT} "}
    assert expected.format(**names) + '"$HOME/q.sif" python3 -u -m submitit' in line
    assert "--nv" not in srun(script(tmp_path, site_file(tmp_path, container=container)))


def test_a_folder_that_cannot_be_mounted_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    site = site_file(tmp_path, container={"runtime": "apptainer", "image": "x"})
    with pytest.raises(ConfigError, match="a,b/runs' contains a colon or a comma.*mount one above it"):
        script(folder, site)
    site = site_file(tmp_path, container={"runtime": "apptainer", "image": "x", "mounts": [str(tmp_path)]})
    assert f"--bind {tmp_path} " in srun(script(folder, site))


def test_pyxis_is_started_by_srun_and_mounts_the_data(tmp_path: Path) -> None:
    container = {
        "runtime": "pyxis",
        "image": "registry#quell",
        "mounts": ["/a:/b"],
        "options": ["--container-remap-root"],
    }
    (tmp_path / "data").mkdir()
    file = tmp_path / "stages.yaml"
    train = {"config": "configs/supervised.yaml", "overrides": {"data.root": str(tmp_path / "data")}}
    file.write_text(yaml.safe_dump({"stages": {"a": train}, "site": {"container": container}}))
    planned = plan.make(read.read(file), Path("/runs"))
    stage = planned.stages["a"]
    line = srun(executor.script(JobRequest(stage, stage.tasks, planned.site, planned.root)))
    mounts = ",".join(["/a:/b", *(f"{folder}:{folder}" for folder in ("/runs", ROOT, tmp_path / "data"))])
    assert f"'--container-image=registry#quell' --container-mounts={mounts} --container-remap-root sh -c" in line
    assert line.partition(" sh ")[2].count("python3 -u -m submitit") == 1


def test_the_problems_of_a_site_file_are_reported_together_with_its_name(tmp_path: Path) -> None:
    site = site_file(tmp_path, acount="x", gpus="gpu", srun=["mpi=none"], nice="low", container={"runtme": "pyxis"})
    with pytest.raises(ConfigError) as caught:
        script(tmp_path, site, settings={"setup": "module load cuda", "gpu_typ": "a100"})
    report = "\n".join(caught.value.problems)
    for text in (
        f"{site}.acount: unknown key; did you mean 'account'?",
        f"{site}.gpus: Input should be 'gpus-per-node', 'gres' or 'gpus-per-task' (got 'gpu')",
        "'mpi=none' is not an option: write --name=value",
        f"{site}.nice: ",
        f"{site}.container.runtme: unknown key; did you mean 'runtime'?",
        "site.setup: ",
        "site.gpu_typ: unknown key; did you mean 'gpu_type'?",
    ):
        assert text in report


@pytest.mark.parametrize(
    ("container", "says"),
    [
        ({"runtime": "apptainer"}, "image: missing"),
        ({"image": "x"}, "runtime: missing"),
        ({"command": "apptainer exec", "image": "x"}, "give either a command, or a runtime and an image"),
        ({"command": "apptainer exec x", "mounts": ["/a"]}, "write them into the command"),
        ({"runtime": "pyxis", "image": "x", "mounts": ["/a,/b"]}, "list each one by itself"),
        ({}, "give either a command, or a runtime and an image"),
    ],
    ids=str,
)
def test_a_contradictory_container_is_refused(container: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        script(tmp_path, site_file(tmp_path, container=container))


def test_unknown_sites_and_uneven_shares_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no site 'apptaner'.*did you mean 'apptainer'"):
        script(tmp_path, "apptaner")
    with pytest.raises(ConfigError, match=r"stages.a.resources: 3 tasks cannot share 4 GPUs evenly"):
        script(tmp_path, site_file(tmp_path, gpus="gpus-per-task"), {**GPUS, "tasks_per_node": 3})


def test_settings_of_the_stage_file_are_added_to_those_of_the_site(tmp_path: Path) -> None:
    site = site_file(tmp_path, partition="gpu", environment={"A": "1", "B": "1"})
    file = tmp_path / "stages.yaml"
    file.write_text(yaml.safe_dump({"stages": {"a": {"command": ["-c", "pass"]}}, "site": {"environment": {"B": "2"}}}))
    settings = read.read(file, site=site, settings=["site.environment.C=x"]).site
    assert settings.partition == "gpu" and settings.environment == {"A": "1", "B": "2", "C": "x"}


@pytest.mark.parametrize(
    ("setup", "code", "says"),
    [
        (["true", "A=1", "test $A = 1"], 0, ""),
        (["if true; then", "  B=2", "fi", "export C=\\", "3", "test $B$C = 23"], 0, ""),
        (["cat <<END", "a 'line'", "END"], 0, ""),
        (["true", "(exit 7)", "echo not reached"], 6, "setup failed with exit code 7: (exit 7)"),
        (["module load cuda/99"], 6, "setup failed with exit code 127: module load cuda/99"),
        (["if true; then", "false", "fi"], 6, "setup failed with exit code 1: if true; then false fi"),
        (["source /nowhere/activate", "true"], 6, "setup failed with exit code 1: source /nowhere/activate"),
        (["echo 'it''s' \"$(id -u)\" && false"], 6, "&& false"),
    ],
    ids=str,
)
def test_a_command_of_the_setup_that_fails_ends_the_job_with_its_text(setup: list[str], code: int, says: str) -> None:
    text = "\n".join([*setup_lines.script_lines(setup), "echo reached"])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True)
    assert done.returncode == code and ("reached" in done.stdout) == (code == 0), done.stderr
    assert says in done.stderr and ("not reached" not in done.stdout)
