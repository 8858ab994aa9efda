"""Readers of run folders take what is intact of damaged logs and summaries, and never stop."""

import json
from pathlib import Path

import numpy as np
import pytest

from quell.configs import loader
from quell.configs.errors import QuellError
from quell.configs.support.paths import ROOT
from quell.launch.diagnosis.examine import read_facts
from quell.launch.diagnosis.general_rules import general_checks
from quell.launch.runs.folder import RunFolder
from quell.launch.studies import results, table
from quell.slurm.node import records
from quell.slurm.report import rows
from quell.slurm.submission.manifest import Manifest, SubmittedStage, SubmittedTask
from tests.support.mutations import mutate_json_lines

EVENTS = [
    {"event": "start", "step": 0, "time": 1.0, "steps": 8, "world": 1},
    *({"event": "train", "step": n, "time": 1.0 + n, "loss_denoiser": 1 / n, "cross": 0.5, "epoch": n / 2,
       "skipped_denoiser": 0.0, "images_per_s": 3.0, "step_ms": 2.0, "data_wait": 0.1} for n in range(1, 9)),
    {"event": "eval", "step": 8, "time": 10.0, "psnr": 30.0, "noisy_psnr": 20.0, "epoch": 4.0},
    {"event": "end", "step": 8, "time": 11.0, "status": "finished"},
]  # fmt: skip
SUMMARY = {"status": "finished", "step": 8, "steps": 8, "exit_code": 0, "metrics": {"psnr": 30.0}, "warnings": {}}
REPORT = {"means": {"pd/psnr": 30.0, "pd/noisy/psnr": 20.0}}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create()
    run.write_config(loader.load(ROOT / "configs" / "quickstart.yaml"))
    run.metrics_file.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    run.summary_file.write_text(json.dumps(SUMMARY))
    (run.path / "report.json").write_text(json.dumps(REPORT))
    return run


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "report.json"])
def test_readers_survive_any_damage(folder: RunFolder, name: str) -> None:
    file, random = folder.path / name, np.random.default_rng(5)
    intact = file.read_bytes()
    task = SubmittedTask(name="a", kind="train", run_dir=str(folder.path), folder=str(folder.path), digest="")
    for _ in range(150):
        file.write_bytes(mutate_json_lines(intact, random))
        result = results.read_result(folder.path)
        assert result is not None and table.csv_text([result])
        if result.train_events:
            result.loss_curve()
        rows.progress(task)
        try:
            general_checks(read_facts(folder))
        except QuellError as error:
            assert "no training log" in str(error)


def test_readers_survive_damaged_records_of_a_job(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    records.append_event(tmp_path, "start", job="1", step=0, node="n")
    records.append_event(tmp_path, "end", job="1", step=4, code=1, reason="exit code 1")
    records.write_failure(tmp_path, records.Failure(job="1", rank=0, node="n", says="x", time=1.0, tail=["error: x"]))
    task = SubmittedTask(name="a", job="1", kind="command", run_dir="r", folder=str(tmp_path), digest="")
    stages = {"a": SubmittedStage(job="1", tasks=(task,))}
    manifest = Manifest(name="n", executor="slurm", stage_file="f", created="c", commit="", code="", stages=stages)
    history, failure = tmp_path / records.EVENTS_FILE, tmp_path / "failure-0.json"
    for file in (history, failure):
        intact = file.read_bytes()
        for _ in range(150):
            file.write_bytes(mutate_json_lines(intact, random))
            assert all(event["job"] for event in records.history(tmp_path))
            assert records.first_failure(tmp_path, "1") is None or records.first_failure(tmp_path, "1")["tail"]  # type: ignore[index]
            records.starts(tmp_path, "1")
            assert rows.rows(manifest, {})[0].elapsed_s is not None or file == history
        file.write_bytes(intact)
