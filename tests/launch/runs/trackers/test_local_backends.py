"""Each tracker's own local files hold one run with every step once, after a kill, a resume and an end."""

import json
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest

from quell.configs.support.event_log import read_events
from quell.configs.tracking import TrackingConfig
from quell.launch.runs.tracker import Ending
from quell.launch.runs.trackers.backend import TrackedRun
from quell.launch.runs.trackers.mlflow import Mlflow
from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys, time
sys.path[0] = {root!r}
from quell.launch import train
from quell.launch.runs.trackers.relay import Relay
from quell.launch.training import loop
train_step, relays, start = loop.train_step, [], Relay._start
Relay._start = lambda self, backend: (start(self, backend), relays.append(self))
def step_or_kill(phases, pipeline, step, *arguments):
    if step == 7:  # what was logged is sent, and steps 5 to 7 are not in a checkpoint
        while not (relays and relays[0]._sent.get("train") == 7):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(phases, pipeline, step, *arguments)
loop.train_step = step_or_kill
sys.exit(train.main(sys.argv[1:]))
"""

READ_WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2
BLOCK, HEADER = 32768, 7

def records(data):
    # LevelDB's log: checksum, length, kind (whole, first, middle, last), content
    at, parts = HEADER, []
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        parts.append(data[at + HEADER : at + HEADER + length])
        at += HEADER + length
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []

found = {"ids": [], "points": [], "pictures": 0}
for file in sorted(Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")):
    found["ids"].append(file.stem)
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        for item in record.history.item:
            name = item.key or "/".join(item.nested_key)
            if name in ("train/loss_denoiser", "val/psnr"):
                found["points"].append([name, record.history.step.num])
            found["pictures"] += '"images/separated"' in item.value_json
print(json.dumps(found))
"""

READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow/mlflow.db")
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
points = [[name, point.step] for run in runs for name in ("train/loss_denoiser", "val/psnr")
          for point in client.get_metric_history(run.info.run_id, name)]
pictures = sum(len(client.list_artifacts(run.info.run_id, "images")) for run in runs) // 2  # each with a small copy
found = {"ids": [run.info.run_id for run in runs], "points": points, "pictures": pictures,
         "status": runs[0].info.status, "commit": runs[0].data.params["run.commit"], "tags": sorted(runs[0].data.tags)}
print(json.dumps(found))
"""


def tracked(tracker: str, mini: Path, root: Path, folder: Path, command: Command) -> Path:
    """A run of ten steps that was killed at the eighth, with a checkpoint of the fourth, and resumed."""
    run = folder / "run"
    arguments = [
        "--config",
        SMALL_CONFIG,
        f"data.root={mini}",
        "loop.max_steps=10",
        f"tracking.trackers=[{tracker}]",
        "tracking.offline=true",
        "tracking.log_every=1",
        "tracking.tags=[knee]",
        "checkpoint.every_steps=4",
        "checkpoint.asynchronous=false",
        "evaluation.every_epochs=null",
        "evaluation.every_steps=5",
        "evaluation.images=1",
        "--run-dir",
        run,
    ]
    script = folder / "killed.py"
    script.write_text(KILLED.format(root=str(root)))
    command([sys.executable, script, *arguments], code=-signal.SIGKILL)
    command([sys.executable, "-m", "quell", "train", *arguments])
    logged = {(event["event"], event["step"]) for event in read_events(run / "metrics.jsonl")}
    assert logged >= {("train", step) for step in range(1, 11)} | {("eval", 5), ("eval", 10)}
    return run


EVERY_POINT = sorted([["train/loss_denoiser", step] for step in range(1, 11)] + [["val/psnr", 5], ["val/psnr", 10]])


def test_weights_and_biases(mini: Path, root: Path, tmp_path: Path, command: Command) -> None:
    run = tracked("wandb", mini, root, tmp_path, command)
    found = json.loads(command([sys.executable, "-W", "ignore", "-c", READ_WANDB, run]).output.splitlines()[-1])
    assert len(found["ids"]) == 2 and len(set(found["ids"])) == 1
    points = [tuple(point) for point in found["points"]]  # some of them in the killed process's file as well
    assert sorted(set(points)) == [tuple(point) for point in EVERY_POINT] and found["pictures"] > 0
    last_file = points[-len(EVERY_POINT) :]
    assert sorted(last_file) == [tuple(point) for point in EVERY_POINT], (
        "what the killed one may have lost is sent again"
    )


def test_mlflow(mini: Path, root: Path, tmp_path: Path, command: Command) -> None:
    run = tracked("mlflow", mini, root, tmp_path, command)
    found = json.loads(command([sys.executable, "-W", "ignore", "-c", READ_MLFLOW, run]).output.splitlines()[-1])
    assert len(found["ids"]) == 1 and sorted(found["points"]) == EVERY_POINT
    assert found["pictures"] == 2 * 4 and found["commit"] and "knee" in found["tags"]
    assert found["status"] == "FINISHED"


@pytest.mark.filterwarnings("ignore")  # of the libraries that MLflow uses
def test_mlflow_is_told_how_a_run_ended_and_starts_another_where_it_does_not_know_it(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    run = TrackedRun("run", tmp_path, TrackingConfig(offline=True), {})
    identity, endings = "0123456789abcdef0123456789abcdef", list(get_args(Ending))
    statuses: list[str] = []
    for ending in endings:
        backend = Mlflow(run, identity, {})
        started = backend.start()
        assert (started == identity) is bool(statuses), "the first id is that of a run on another server"
        identity = started
        backend.log({"train/epoch": 1.0}, 5)
        backend.finish(ending)
        statuses.append(MlflowClient().get_run(identity).info.status)
    assert endings == ["finished", "stopped", "failed"] and statuses == ["FINISHED", "KILLED", "FAILED"]


def test_comet_archives_hold_the_run_although_the_killed_one_left_none(
    mini: Path, root: Path, tmp_path: Path, command: Command
) -> None:
    run = tracked("comet", mini, root, tmp_path, command)
    (archive,) = (run / "comet").glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        messages: list[dict[str, Any]] = [json.loads(line) for line in opened.read("messages.json").splitlines()]
        experiment = json.loads(opened.read("experiment.json"))
    metrics = [m["payload"]["metric"] for m in messages if m["type"] == "metric_msg"]
    points = [[m["metricName"], m["step"]] for m in metrics if m["metricName"] in ("train/loss_denoiser", "val/psnr")]
    assert experiment["resume_strategy"] == "create", "nothing of it was uploaded before"
    assert sorted(points) == EVERY_POINT
    assert sum(m["type"] == "file_upload" for m in messages) >= 4
    others = [list(m["payload"].values()) for m in messages if m["type"] == "log_other"]
    assert any("ending" in values and "finished" in values for values in others)
    assert archive.name.startswith(json.loads((run / "trackers.json").read_text())["ids"]["comet"])


def test_clearml_sessions_hold_the_run(mini: Path, root: Path, tmp_path: Path, command: Command) -> None:
    run = tracked("clearml", mini, root, tmp_path, command)
    (archive,) = (run / "clearml" / "offline").glob("*.zip")  # the killed session left a folder only
    with zipfile.ZipFile(archive) as opened:
        events = [e for line in opened.read("metrics.jsonl").splitlines() for e in json.loads(line)]
    points = [[e["metric"], e["iter"]] for e in events if e["metric"] in ("train/loss_denoiser", "val/psnr")]
    assert sorted(points) == EVERY_POINT
    assert {e["iter"] for e in events if e.get("type") == "training_debug_image"} >= {10}
