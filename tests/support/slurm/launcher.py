"""The launcher as a user starts it, and waiting for what it does."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from quell.configs.support.paths import ROOT
from quell.slurm.report import status
from quell.slurm.submission import manifest
from tests.support.runs import read_events
from tests.support.slurm.cluster import Cluster

GATE = ROOT / "tests" / "support" / "slurm" / "gate"
"""Folder of the code that lets a test hold a training run; see its sitecustomize.py."""
PATIENCE_S = 900.0
"""How long a test waits for something that takes seconds on an idle machine."""
TIMEOUT_S = 3600
"""When a test on the cluster is given up: well after several such waits in a row."""

TINY: dict[str, Any] = {
    "pipeline.encoder_features": [4, 8, 16],
    "pipeline.decoder_features": [16, 8, 4],
    "pipeline.latent_channels": 8,
    "data.crop": 32,
    "data.batch_size": 4,
    "loop.epochs": None,
    "loop.max_steps": 40,
    "tracking.log_every": 1,
    "evaluation.every_epochs": None,
    "evaluation.images": 0,
    "checkpoint.every_steps": 10,
    "tracking.tensorboard": False,
}
"""Overrides with which any dual-domain configuration trains in a second or two."""


def build_tiny_data(folder: Path) -> Path:
    """Build phantom knees of 32 x 32 pixels, for TINY runs, below a folder; where they are."""
    from quell.shards import build

    data = folder / "phantom"
    build.build(["phantom", "--size", "32", "--train", "16", "--val", "2", "--test", "2", "--output", str(data)])
    return data


@dataclass(frozen=True)
class Result:
    """The exit code of the launcher and everything it printed."""

    code: int
    out: str
    err: str


class Launcher:
    """`python slurm/submit.py` in a working folder that has nothing to do with the project."""

    def __init__(self, folder: Path, data: Path, cluster: Cluster | None) -> None:
        self.folder, self.data, self.cluster = folder, data, cluster

    def stage_file(self, name: str, stages: dict[str, Any], **others: Any) -> Path:
        """Write a stage file whose training stages are tiny; its path."""
        resources = {"time_min": 30, "grace_s": 20, **others.pop("resources", {})}
        overrides = {**TINY, "data.root": str(self.data), **others.pop("overrides", {})}
        file = self.folder / f"{name}.yaml"
        content = {"name": name, "resources": resources, "overrides": overrides, "stages": stages, **others}
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Start the launcher."""
        return subprocess.Popen(
            [sys.executable, str(ROOT / "slurm" / "submit.py"), *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, code: int | None = 0) -> Result:
        """Run the launcher to its end, and check its exit code."""
        return self.finish(self.start(*arguments), code=code)

    def finish(self, process: "subprocess.Popen[str]", *, code: int | None = 0) -> Result:
        """Wait for a started launcher, and check its exit code."""
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, err = process.communicate()
            raise AssertionError(f"not within {PATIENCE_S:g} s: {process.args!r}\n{out}\n{err}") from None
        assert code is None or process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return Result(process.returncode, out, err)

    def submit(self, file: Path, *arguments: object, code: int | None = 0) -> Result:
        """Submit a stage file into `runs(name)`."""
        return self.run("--stages", file, "--run-dir", self.runs(file.stem), *arguments, code=code)

    def runs(self, name: str) -> Path:
        """The folder the stages of a file write to."""
        return self.folder / "runs" / name

    def manifest(self, name: str) -> dict[str, Any]:
        """The contents of stages.json."""
        return json.loads((self.runs(name) / "stages.json").read_text())

    def job(self, name: str, stage: str) -> str:
        """A stage's job id."""
        return str(self.manifest(name)["stages"][stage]["job"])

    def status(self, name: str) -> dict[str, str]:
        """The line of each task in the status table."""
        return _by_task(self.run("status", "--all", self.runs(name)).out)

    def state(self, name: str, task: str) -> str:
        """The state of a task in the status table."""
        return self.status(name)[task].split()[2]

    def wait_for(self, name: str, task: str, *states: str) -> str:
        """Wait until a task is in one of these states; its line of the status table."""
        lines: dict[str, str] = {}

        def reached() -> bool:
            if self.cluster:
                self.cluster.start_requeued()
            lines.update(self._poll_status(name))
            return lines[task].split()[2] in states

        wait_until(reached, lambda: f"{task} {states}:\n{lines[task]}", pause_s=0.3)
        return self.status(name)[task]

    def log(self, name: str, stage: str) -> str:
        """What the ranks of a stage printed in all starts of its job."""
        files = sorted((self.runs(name) / "logs" / stage).glob("*/*_log.out"))
        return "\n".join(file.read_text() for file in files)

    def environment(self) -> dict[str, str]:
        """The environment of the launcher and of all it starts."""
        base = self.cluster.environment() if self.cluster else dict(os.environ)
        path = os.pathsep.join(filter(None, [str(GATE), base.get("PYTHONPATH")]))
        return {**base, "CUDA_VISIBLE_DEVICES": "", "QUELL_TIMEOUT_MINUTES": "5", "PYTHONPATH": path}

    def _poll_status(self, name: str) -> dict[str, str]:
        """The status table, computed in this process because that is faster than starting the launcher."""
        with mock.patch.dict(os.environ, self.environment()):
            submitted = manifest.require_manifest(self.runs(name))
            return _by_task(status.table(submitted, status.read(submitted)[0], unfold=True))


def _by_task(table: str) -> dict[str, str]:
    """The lines of a status table by the names of their tasks."""
    rows = table.partition("\n\n")[0]
    return {line.split()[0]: line for line in rows.splitlines()[1:]}


def wait_until(condition: Callable[[], object], description: Callable[[], str], *, pause_s: float = 0.1) -> None:
    """Wait for something that happens in other processes; AssertionError, with its description, if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {description()}"
        time.sleep(pause_s)


def steps_logged(run: Path) -> list[int]:
    """The training steps in a run's metrics.jsonl, in the order of its lines."""
    return [event["step"] for event in read_events(run, "train")]


def weights(run: Path) -> bytes:
    """The weights of a run's last checkpoint, byte for byte."""
    return max(run.glob("checkpoints/step-*/weights.safetensors")).read_bytes()
