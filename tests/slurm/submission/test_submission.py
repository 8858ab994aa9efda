"""A long chain is handed in with few commands, without a pause, and nothing is worked out twice."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.dual_domain import DualDomain
from slurm import submit
from slurm.stages import preflight
from tests.support.slurm.driver import TINY

STAGES = 10
ANSWERS = {"sbatch": 'echo "Submitted batch job $$"', "squeue": ":", "scontrol": ":", "scancel": ":"}


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the name of every command of SLURM that was called; the commands are stand-ins."""
    log, folder = tmp_path / "called", tmp_path / "bin"
    folder.mkdir()
    for name, answer in ANSWERS.items():
        (folder / name).write_text(f"#!/bin/sh\necho {name} $1 >> {log}\n{answer}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


def answer(called: Path, command: str, line: str) -> None:
    """Let a stand-in do something else from now on."""
    (called.parent / "bin" / command).write_text(f"#!/bin/sh\n{line}\n")


def jobs(root: Path, stage: str) -> set[str]:
    """The jobs a stage was handed in as, by the folders of their logs."""
    return {folder.name for folder in (root / "logs" / stage).iterdir() if folder.name.isdigit()}


def script(root: Path, stage: str, job: str) -> str:
    """What was handed in as that job."""
    return (root / "logs" / stage / job / f"{job}_submission.sh").read_text()


def test_a_stage_whose_job_is_still_ending_is_handed_in_again_to_start_after_it(
    called: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after = {"command": ["-c", "pass"], "after": ["train"]}
    stages = {"train": {"config": "configs/cross_no_skip.yaml"}, "report": after}
    file, root = tmp_path / "again.yaml", tmp_path / "runs"
    file.write_text(yaml.safe_dump({"overrides": {**TINY, "data.root": str(tiny_data)}, "stages": stages}))
    handed_in = ["--stages", str(file), "--run-dir", str(root)]
    assert submit.main(handed_in) == 0
    (first,), (second,) = jobs(root, "train"), jobs(root, "report")
    answer(called, "squeue", f"printf '{first}|COMPLETING|None\\n{second}|PENDING|Dependency\\n'")
    assert submit.main(["cancel", str(root)]) == 0
    assert submit.main(["status", str(root)]) == 0
    assert "cancelled, and its job is not gone yet" in capsys.readouterr().out
    assert submit.main(handed_in) == 0
    assert "kept" not in capsys.readouterr().out
    (again,), (report,) = jobs(root, "train") - {first}, jobs(root, "report") - {second}
    assert f"--dependency=afterany:{first}\n" in script(root, "train", again), "not beside the job that writes there"
    assert f"--dependency=afterok:{again},afterany:{second}\n" in script(root, "report", report)
    held = "#SBATCH --hold\n"
    assert held in script(root, "train", again), "until all stages are handed in"
    assert held not in script(root, "report", report)


def test_a_chain_of_ten_is_handed_in_without_waiting(
    called: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: dict[str, Any] = {"s0": {"config": "configs/progressive_training.yaml"}}
    for number in range(1, STAGES):
        start = {"stage": f"s{number - 1}", "parts": ["encoder"]}
        stages[f"s{number}"] = {"config": "configs/progressive_training_stage2.yaml", "init_from": start}
    file = tmp_path / "ten.yaml"
    file.write_text(yaml.safe_dump({"overrides": {**TINY, "data.root": str(tiny_data)}, "stages": stages}))
    built: list[str] = []
    pauses: list[float] = []
    build, sleep = DualDomain.__init__, time.sleep

    def counted(self: DualDomain, *arguments: Any) -> None:
        built.append(type(self).__name__)
        build(self, *arguments)

    def watched(seconds: float) -> None:
        pauses.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(preflight, "_NETWORKS", {})
    monkeypatch.setattr(DualDomain, "__init__", counted)
    monkeypatch.setattr(time, "sleep", watched)
    assert submit.main(["--stages", str(file), "--run-dir", str(tmp_path / "runs")]) == 0
    words = called.read_text().splitlines()
    assert [word.split()[0] for word in words].count("sbatch") == STAGES
    assert len(words) == STAGES + 5, f"besides: the queue, its limits, and the release of the first stage\n{words}"
    assert max(pauses, default=0) < 0.1, "only while a command runs"
    assert built == ["DualDomain"], "the method of nine stages is built once, to know the names of its networks"
