"""A long chain is submitted with few commands and without pauses, and nothing is computed twice."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.pipelines.dual_domain import DualDomain
from quell.slurm import submit
from quell.slurm.stages import preflight
from tests.support.slurm.launcher import TINY

STAGES = 10
COMMANDS = {"sbatch": 'echo "Submitted batch job $$"', "squeue": ":", "scontrol": ":", "scancel": ":"}


@pytest.fixture
def call_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put stand-ins for SLURM's commands on the PATH; a file with the name of every command that was called."""
    log, folder = tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    for name, line in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\necho {name} $1 >> {log}\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def replace_command(call_log: Path, command: str, line: str) -> None:
    """Let a stand-in run another line of shell from now on."""
    (call_log.parent / "bin" / command).write_text(f"#!/bin/sh\n{line}\n")


def jobs(root: Path, stage: str) -> set[str]:
    """The jobs a stage was submitted as, by the folders of their logs."""
    return {folder.name for folder in (root / "logs" / stage).iterdir() if folder.name.isdigit()}


def script(root: Path, stage: str, job: str) -> str:
    """The sbatch script of a job."""
    return (root / "logs" / stage / job / f"{job}_submission.sh").read_text()


def test_a_stage_whose_cancelled_job_has_not_ended_is_submitted_again_to_start_after_it(
    call_log: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"command": ["-c", "pass"], "after": ["train"]}
    stages = {"train": {"config": "configs/cross_no_skip.yaml"}, "report": report}
    file, root = tmp_path / "again.yaml", tmp_path / "runs"
    file.write_text(yaml.safe_dump({"overrides": {**TINY, "data.root": str(tiny_data)}, "stages": stages}))
    arguments = ["--stages", str(file), "--run-dir", str(root)]
    assert submit.main(arguments) == 0
    (first_train,), (first_report,) = jobs(root, "train"), jobs(root, "report")
    queue = f"printf '{first_train}|COMPLETING|n1|1:00|N/A|None\\n{first_report}|PENDING||0:00|N/A|Dependency\\n'"
    replace_command(call_log, "squeue", queue)
    assert submit.main(["cancel", str(root)]) == 0
    assert submit.main(["status", str(root)]) == 0
    assert "cancelled, but its job has not ended yet" in capsys.readouterr().out
    assert submit.main(arguments) == 0
    assert "kept" not in capsys.readouterr().out
    (second_train,) = jobs(root, "train") - {first_train}
    (second_report,) = jobs(root, "report") - {first_report}
    train_script, report_script = script(root, "train", second_train), script(root, "report", second_report)
    assert f"--dependency=afterany:{first_train}\n" in train_script, "not while another job writes to the run folder"
    assert f"--dependency=afterok:{second_train},afterany:{first_report}\n" in report_script
    hold = "#SBATCH --hold\n"
    assert hold in train_script, "until all stages are submitted"
    assert hold not in report_script


def test_a_chain_of_ten_stages_is_submitted_without_pauses(
    call_log: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: dict[str, Any] = {"s0": {"config": "configs/progressive_training.yaml"}}
    for number in range(1, STAGES):
        init_from = {"stage": f"s{number - 1}", "parts": ["encoder"]}
        stages[f"s{number}"] = {"config": "configs/progressive_training_stage2.yaml", "init_from": init_from}
    file = tmp_path / "ten.yaml"
    file.write_text(yaml.safe_dump({"overrides": {**TINY, "data.root": str(tiny_data)}, "stages": stages}))
    built: list[str] = []
    pauses: list[float] = []
    build, sleep = DualDomain.__init__, time.sleep

    def build_and_record(self: DualDomain, *arguments: Any) -> None:
        built.append(type(self).__name__)
        build(self, *arguments)

    def sleep_and_record(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(preflight, "_NETWORKS", {})
    monkeypatch.setattr(DualDomain, "__init__", build_and_record)
    monkeypatch.setattr(time, "sleep", sleep_and_record)
    assert submit.main(["--stages", str(file), "--run-dir", str(tmp_path / "runs")]) == 0
    calls = call_log.read_text(encoding="utf-8").splitlines()
    assert [call.split()[0] for call in calls].count("sbatch") == STAGES
    assert len(calls) == STAGES + 5, f"besides: the queue, its limits, and the release of the first stage\n{calls}"
    assert max(pauses, default=0) < 0.1, "only while a command runs"
    assert built == ["DualDomain"], "the method of nine stages is built once, to find the names of its networks"
