"""Trainings and evaluations for the benchmarks of quality: each is a command of the project, done once."""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quell.configs.support.paths import ROOT
from quell.launch.differences.paired_statistics import paired_difference

BASELINES = tuple(word for name in ("noisy", "nlm", "bm3d") for word in ("--baseline", name))
"""Options of launch/evaluate.py for what is always measured beside a run."""
Report = dict[str, object]
"""The content of a report.json."""


def run(*words: str) -> None:
    """Run a command of the project, and end with its error."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def train(trained: Path, config: str, data: Path, settings: Sequence[str], steps: int) -> float:
    """Train a run to its end on one thread, unless that is done; returns its processor time in minutes.

    Args:
        trained: Run folder.
        config: Name of a file in configs/.
        data: Folder of shards.
        settings: Overrides of the configuration.
        steps: Training steps; a checkpoint and an evaluation come at the end.
    """
    noted = trained / "cpu_minutes.json"
    if noted.is_file():
        return float(json.loads(noted.read_text(encoding="utf-8")))
    lengths = [f"loop.max_steps={steps}", f"evaluation.every_steps={steps}", f"checkpoint.every_steps={steps}"]
    quiet = ["loop.threads=1", "tracking.tensorboard=false", f"data.root={data}"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["launch/train.py", "--config", str(ROOT / "configs" / f"{config}.yaml"), "--run-dir", str(trained)]
    run(*command, *quiet, *lengths, *settings)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 60
    noted.write_text(json.dumps(minutes), encoding="utf-8")
    return minutes


def evaluate(trained: Path, output: Path, limit: int | None, *arguments: str) -> Report:
    """The report of a trained run on the test images, or the first of them, measured unless that is done."""
    if not output.is_file():
        fewer = ["--limit", str(limit)] if limit else []
        run("launch/evaluate.py", "--run", str(trained), "--which", "last", "--output", str(output), *fewer, *arguments)
    content: Report = json.loads(output.read_text(encoding="utf-8"))
    return content


def difference(first: Sequence[float], second: Sequence[float]) -> str:
    """How much the first is higher, image by image: the median with its 95 % interval, and p."""
    compared = paired_difference(list(first), list(second))
    return f"{compared.median:+.2f} ({compared.low:+.2f} to {compared.high:+.2f}), p {compared.p:.3f}"
