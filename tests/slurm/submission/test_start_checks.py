"""Nothing is submitted whose jobs would fail at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from quell.slurm import submit
from quell.slurm.submission import start_checks
from tests.support.slurm.launcher import TINY

TRAIN = {"config": "configs/cross_no_skip.yaml"}


def dry_run(folder: Path, data: Path, stages: dict[str, Any], *arguments: str) -> int:
    """The exit code of --dry-run for some stages."""
    file = folder / "stages.yaml"
    file.write_text(yaml.safe_dump({"overrides": {**TINY, "data.root": str(data)}, "stages": stages}, sort_keys=False))
    return submit.main(["--stages", str(file), "--run-dir", str(folder / "runs"), "--dry-run", *arguments])


def test_the_problems_of_all_stages_are_reported_together(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = {
        "good": TRAIN,
        "fields": {**TRAIN, "overrides": {"data.fields": {"source": "nothing"}}},
        "wide": {**TRAIN, "init_from": {"stage": "good"}, "overrides": {"pipeline.latent_channels": 4}},
    }
    assert dry_run(tmp_path, tiny_data, stages) == 2
    report = capsys.readouterr()
    assert "stages.fields: " in report.err and "'nothing'" in report.err
    assert "stages.wide: " in report.err and "holds another model's weights" in report.err
    assert "stages.good" not in report.err and report.out == ""
    assert dry_run(tmp_path, tiny_data, stages, "--only", "good") == 0


def test_what_cannot_be_checked_here_is_left_to_the_jobs(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Done:
        returncode, stderr = 0, ""

        def __init__(self, *_: Any, input: str, **__: Any) -> None:
            asked.extend(json.loads(input))
            self.stdout = json.dumps({request["name"]: [] for request in asked})

    monkeypatch.setattr("subprocess.run", Done)
    build = {"command": ["-m", "shards.build"]}
    stages = {
        "build": build,
        "built": {**TRAIN, "after": ["build"], "overrides": {"data.root": "/not/yet"}},
        "remote": {**TRAIN, "overrides": {"data.root": "s3://bucket/knees"}},
        "here": {**TRAIN, "resources": {"gpus_per_node": 1}},
    }
    assert dry_run(tmp_path, tiny_data, stages, "--set", "site.python=/opt/python") == 0
    (request,) = asked
    assert request["name"] == "here" and not request["on_cpu"] and not request["same_packages"]
    monkeypatch.setattr(start_checks.importlib.util, "find_spec", lambda name: None)
    asked.clear()
    assert dry_run(tmp_path, tiny_data, {"here": TRAIN}) == 0
    assert "PyTorch is not installed here" in capsys.readouterr().err and not asked
