"""Stage files: their keys, one report of all problems, and what --dry-run shows."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.configs.errors import ConfigError
from quell.configs.support.paths import BASE_VARIABLE
from quell.slurm import submit
from quell.slurm.report import render
from quell.slurm.stages import graph, plan, read, site_files
from quell.slurm.submission import snapshot
from tests.support.slurm.launcher import ROOT, TINY

SHIPPED = sorted((ROOT / "configs" / "stages").glob("*.yaml"))
ALL_METHODS = "all_methods"
TRAIN = {"config": "configs/cross_no_skip.yaml"}


@pytest.fixture
def write(tmp_path: Path, tiny_data: Path) -> Any:
    """A function that writes a stage file for tiny data and returns its path."""

    def write(stages: dict[str, Any], **others: Any) -> Path:
        file = tmp_path / "some.yaml"
        overrides = {**TINY, "data.root": str(tiny_data), **others.pop("overrides", {})}
        file.write_text(yaml.safe_dump({"overrides": overrides, "stages": stages, **others}, sort_keys=False))
        return file

    return write


def problems(file: Path, **options: Any) -> list[str]:
    """All problems of a stage file."""
    with pytest.raises(ConfigError) as caught:
        plan.make(read.read(file, **options), file.parent / "runs")
    return caught.value.problems


def resolved_configs(planned: plan.Plan) -> dict[str, Any]:
    """The resolved configuration of every training task, by task name."""
    texts = {name: text for stage in planned.stages.values() for name, text in stage.configs.items()}
    return {name: yaml.safe_load(text) for name, text in texts.items()}


def test_the_problems_of_all_stages_are_reported_together(write: Any) -> None:
    file = write(
        {
            "warmup": {**TRAIN, "resources": {"node": 2}, "overrides": {"loop.epochs": "x"}},
            "denoise": {**TRAIN, "init_from": {"stage": "warmup", "parts": ["decode_a"]}, "afer": ["warmup"]},
            "sweep": {"list": {"a": {"confg": "configs/cross_no_skip.yaml"}}, "after": ["denose"]},
            "gone": {"config": "configs/pure_noise2nois.yaml"},
            "uneven": {**TRAIN, "resources": {"nodes": 3}},
            "measure": {"command": ["launch/evaluat.py", "--run", "{warmup}", "{nothing}"]},
            "both": {"config": "configs/cross_no_skip.yaml", "command": ["x.py"]},
        },
        site={"acount": "x"},
    )
    report = "\n".join(problems(file))
    for text in (
        "stages.warmup.resources.node: unknown key; did you mean 'nodes'?",
        "stages.warmup: loop.epochs: Input should be a valid number",
        "stages.denoise.afer: unknown key; did you mean 'after'?",
        "stages.denoise: init_from.parts: no network 'decode_a'; did you mean 'decoder_a'?",
        "stages.sweep.list.a.confg: unknown key; did you mean 'config'?",
        "stages.sweep: waits for 'denose', did you mean 'denoise'?",
        "no such file; did you mean 'pure_noise2noise'?",
        "stages.uneven: data.batch_size must be a multiple of 3 (3 processes x 1 micro-batch), got 4",
        "stages.measure.command: {warmup} is used, so add 'warmup' to after",
        "stages.measure.command: {nothing} is not a stage",
        "stages.measure.command: no script",
        "stages.both: give exactly one of config, list, command and pick; got config or list, command",
        "site.acount: unknown key; did you mean 'account'?",
    ):
        assert text in report


def test_stages_that_wait_for_each_other_are_refused(write: Any) -> None:
    file = write({"a": {**TRAIN, "after": ["c"]}, "b": {**TRAIN, "after": ["a"]}, "c": {**TRAIN, "after": ["b"]}})
    assert any("a -> c -> b -> a is a cycle" in problem for problem in problems(file))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({**TRAIN, "init_from": {"stage": "sweep"}}, "'sweep' is a sweep of several runs; add a pick stage"),
        ({**TRAIN, "init_from": {"stage": "command"}}, "'command' does not train, so there is no checkpoint"),
        ({**TRAIN, "init_from": {"stage": "one"}, "after": {"one": "afternotok"}}, "it cannot wait for its failure"),
        ({**TRAIN, "use": "one"}, "use: 'one' is not a pick stage"),
        ({"pick": {"stage": "one"}}, "'one' is not a sweep: there is nothing to choose from"),
        ({"command": ["-c", "1", "{one.x}"], "after": ["one"]}, "'one' is not a sweep, write {one}"),
        ({"command": ["-c", "1"], "each": "one"}, "each: 'one' is not a sweep"),
        ({"command": ["-c", "1"], "overrides": {"seed": 1}}, "overrides: only for stages that train"),
        ({**TRAIN, "grid": {"seed": []}}, "grid.seed: no values"),
        ({**TRAIN, "after": {"one": "afterwards"}}, "Input should be 'afterok', 'afterany' or 'afternotok'"),
        ({**TRAIN, "overrides": {"data.root": "/no/where"}}, "data.root: no folder /no/where"),
        ({**TRAIN, "overrides": {"init_from": {"run": "runs/never"}}}, "init_from.run: no run at"),
    ],
)
def test_a_stage_that_cannot_run_is_refused(write: Any, stage: dict[str, Any], message: str) -> None:
    others = {"one": TRAIN, "sweep": {**TRAIN, "grid": {"seed": [1, 2]}}, "command": {"command": ["-c", "1"]}}
    report = problems(write({**others, "tested": stage}))
    assert len(report) == 1 and message in report[0], report


def test_a_file_that_is_not_a_stage_file_is_refused(tmp_path: Path) -> None:
    invalid = {"- a\n": "expected a mapping", "stages: {}\n": "at least 1", "a: 1\na: 2\n": "given twice"}
    for text, message in invalid.items():
        file = tmp_path / "x.yaml"
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read.read(file)


def test_members_of_a_sweep_are_named_after_their_values(write: Any) -> None:
    file = write(
        {
            "one": {**TRAIN, "grid": {"pipeline.cross_domain_strategy": ["no_skip", "zero_skip"]}},
            "two": {**TRAIN, "grid": {"seed": [1, 2], "optimizer.lr": [1.0e-3, 2.0e-3]}},
            "listed": {
                **TRAIN,
                "list": {"a": {"overrides": {"seed": 7}}, "b": {"config": "configs/cross_zero_skip.yaml"}},
            },
        }
    )
    planned = plan.make(read.read(file), file.parent / "runs")
    members = {name: [task.member for task in stage.tasks] for name, stage in planned.stages.items()}
    assert members["one"] == ["no_skip", "zero_skip"]
    assert members["two"][1] == "seed-1_lr-0.002" and len(members["two"]) == 4
    configs = resolved_configs(planned)
    assert configs["two.seed-2_lr-0.001"]["seed"] == 2
    assert configs["listed.a"]["seed"] == 7
    assert configs["listed.b"]["pipeline"]["cross_domain_strategy"] == "zero_skip"


def test_settings_change_the_stage_file_or_every_configuration(write: Any) -> None:
    file = write({"a": TRAIN, "b": {**TRAIN, "overrides": {"seed": 5}, "after": ["a"]}})
    settings = ["loop.max_steps=3", "seed=4", "stages.b.resources.nodes=2", "resources.time_min=7", "site.account=us"]
    planned = plan.make(read.read(file, settings=[*settings, "name=other"]), file.parent / "runs")
    assert planned.name == "other"
    configs = resolved_configs(planned)
    assert [configs[name]["loop"]["max_steps"] for name in "ab"] == [3, 3]
    assert [configs[name]["seed"] for name in "ab"] == [4, 4], "the command line wins"
    resources = [planned.stages[name].settings.resources for name in "ab"]
    assert [requested.nodes for requested in resources] == [1, 2]
    assert all(requested.time_min == 7 and requested.account == "us" for requested in resources)


@pytest.mark.parametrize("config", ["cross_no_skip", "configs/cross_no_skip.yaml"])
def test_configurations_that_come_with_the_project_are_found_from_any_folder(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path))
    planned = plan.make(read.read(write({"a": {"config": config}})), tmp_path / "runs")
    assert resolved_configs(planned)["a"]["pipeline"]["cross_domain_strategy"] == "no_skip"


def test_an_invalid_setting_is_refused(write: Any) -> None:
    file = write({"a": TRAIN})
    assert problems(file, settings=["loop.max_steps=[", "loop.max_steps"]) == [
        "--set loop.max_steps=[: the value is not valid YAML",
        "--set loop.max_steps: expected section.key=value",
    ]


def test_only_and_from_select_stages_in_order(write: Any) -> None:
    stages = {"d": {**TRAIN, "after": ["b", "c"]}, "a": TRAIN, "b": {**TRAIN, "after": ["a"]}, "c": TRAIN}
    parsed = read.read(write(stages)).stages
    assert graph.select(parsed) == ["a", "b", "c", "d"]
    assert graph.select(parsed, start="b") == ["b", "d"]
    assert graph.select(parsed, only="d") == ["d"]


def test_site_settings_reach_the_script(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "partition: gpu\naccount: us\nqos: long\nconstraint: a100\nsetup: [module load cuda]\n"
        "container: apptainer exec --nv quell.sif\nenvironment: {NCCL_DEBUG: INFO}\nextra: {mail-type: FAIL}\n"
    )
    resources = {"gpus_per_node": 2, "memory_gib": 1.5, "partition": "fast", "at_once": 1}
    file = write({"a": {**TRAIN, "grid": {"seed": [1, 2]}, "resources": resources}})
    monkeypatch.setenv(site_files.SITE_VARIABLE, str(site))
    planned = plan.make(read.read(file), tmp_path / "runs")
    script = render.dry_run(planned, ["a"])
    expected = (
        "partition=fast", "account=us", "qos=long", "constraint=a100", "mail-type=FAIL", "gpus-per-node=2",
        "mem=1536MB", "ntasks-per-node=2", "requeue", "kill-on-invalid-dep=yes", "signal=USR2@120", "array=0-1%1",
    )  # fmt: skip
    for line in (*(f"#SBATCH --{option}" for option in expected), "module load cuda"):
        assert f"\n{line}\n" in script
    assert "apptainer exec --nv quell.sif python3 -u -m submitit" in script
    task = planned.stages["a"].tasks[0]
    assert task.environment == {"NCCL_DEBUG": "INFO"}, "ACCELERATE_USE_CPU is only for jobs without GPUs"


@pytest.mark.parametrize("file", [file for file in SHIPPED if file.stem != ALL_METHODS], ids=lambda file: file.stem)
def test_a_dry_run_shows_the_shipped_stages_without_slurm(file: Path, tiny_data: Path, tmp_path: Path) -> None:
    runs = ROOT / "runs" / file.stem
    existed = runs.exists()
    small = ["--set", f"data.root={tiny_data}", "--set", "data.crop=32"]
    arguments = ["--stages", str(file.relative_to(ROOT)), "--dry-run", *small]
    done = subprocess.run(
        [sys.executable, ROOT / "slurm" / "submit.py", *arguments],
        cwd=tmp_path, env={**os.environ, "PATH": ""}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stages = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        assert f"==== {name}: sbatch script" in done.stdout
        for other in stage.get("after", []):
            assert f"<{other}>" in done.stdout
    assert done.stdout.count("\npipeline:\n") == sum(len(s.get("list", [1])) for s in stages.values() if _trains(s))
    assert runs.exists() == existed and not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_a_dry_run_names_the_methods_whose_fields_the_data_does_not_hold(
    tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(ROOT / "configs" / "stages" / f"{ALL_METHODS}.yaml")
    assert submit.main(["--stages", file, "--dry-run", "--set", f"data.root={tiny_data}", "--set", "data.crop=32"]) == 2
    report = capsys.readouterr().err
    named = re.findall(r"stages\.methods\.(\w+): .* does not hold .*, which this method needs", report)
    assert set(named) == {"cncl", "drgan", "noise2noise", "r2r", "spectroformer", "supervised", "tcfl"}


def test_the_shipped_progressive_stages_are_planned_in_order(tiny_data: Path, tmp_path: Path) -> None:
    file = ROOT / "configs" / "stages" / "progressive.yaml"
    planned = plan.make(read.read(file, settings=[f"data.root={tiny_data}"]), tmp_path)
    configs = resolved_configs(planned)
    assert list(planned.stages) == ["warmup", "denoise", "evaluation"]
    assert [configs[name]["loop"]["epochs"] for name in ("warmup", "denoise")] == [10, 40]
    assert configs["denoise"]["init_from"]["run"] == str(tmp_path / "warmup")
    assert configs["denoise"]["init_from"]["which"] == "best"


def _trains(stage: dict[str, Any]) -> bool:
    return "config" in stage or "list" in stage


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"command": ["-c", "pass"], "after": [False]}, "stages.b.after: expected names of stages, got false"),
        ({"command": ["-c", "pass"], "after": False}, "stages.b.after: expected names of stages, got false"),
        ({"command": ["-c", "pass"], "after": [{"a": "afterok"}]}, 'expected names of stages, got {"a": "afterok"}'),
        ({"command": ["-c", "pass"], "after": 12}, "names that YAML does not read as text (no, on, 12) in quotes"),
        ({**TRAIN, "use": False}, "stages.b.use: expected text, got false (YAML reads no and off as that too)"),
        (
            {**TRAIN, "init_from": {"stage": 1}},
            "stages.b.init_from.stage: expected text, got the number 1: write it in",
        ),
        ({"pick": {"stage": True}}, "stages.b.pick.stage: expected text, got true (YAML reads yes and on as that too)"),
    ],
    ids=str,
)
def test_a_name_that_yaml_does_not_read_as_text_is_explained(stage: dict[str, Any], says: str, write: Any) -> None:
    """A stage may be called `no`, in quotes."""
    assert says in "\n".join(problems(write({"no": {"command": ["-c", "pass"]}, "b": stage})))


def test_a_dry_run_shows_the_snapshot_that_the_job_would_run(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, runs = write({"a": {"command": ["-c", "pass"]}}), tmp_path / "runs"
    assert submit.main(["--stages", str(file), "--run-dir", str(runs), "--dry-run"]) == 0
    code = snapshot.location(runs / "code")
    script = capsys.readouterr().out
    assert f"--chdir={code}\n" in script and f"export PYTHONPATH={code}" in script and not runs.exists()
    assert snapshot.take(runs / "code") == code and code.is_dir()
