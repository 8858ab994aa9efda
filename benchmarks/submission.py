"""What handing in a chain of ten stages takes beyond imports: SLURM's own commands, and ours around them.

The commands are stand-ins that do nothing; a real sbatch adds what its controller takes, ten times.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import yaml
from submitit.core import utils

from benchmarks.support import common
from slurm import submit
from slurm.stages import plan, preflight
from slurm.submission import chain, client, snapshot

STAGES = 10
TARGET_S = 0.5
PARTS: dict[str, tuple[Any, str]] = {
    "check every configuration": (plan, "make"),
    "copy the code": (snapshot, "take"),
    "ask git for the commit": (snapshot, "commit"),
    "hand in, with SLURM's commands": (chain, "submit"),
    "sbatch": (utils.CommandFunction, "__call__"),
    "squeue and scontrol": (client, "call"),
}


def main() -> None:
    """Print the table."""
    quick = common.options(__doc__ or "").quick
    clock: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as name:
        folder = Path(name)
        os.environ["PATH"] = f"{commands(folder / 'bin')}{os.pathsep}{os.environ['PATH']}"
        file = stage_file(folder)
        hand_in(file, folder / "warm")  # imports
        for part, (place, function) in PARTS.items():
            setattr(place, function, timed(getattr(place, function), part, clock))
        rounds: list[dict[str, float]] = []
        for turn in range(3 if quick else 15):
            clock.clear()
            processor, began = time.process_time(), time.perf_counter()
            hand_in(file, folder / str(turn))
            whole = time.perf_counter() - began
            rounds.append({**clock, "all": whole, "processor": time.process_time() - processor})
    for one in rounds:
        one["ours"] = one["all"] - one["sbatch"] - one["squeue and scontrol"]
    shown = [*PARTS, "all", "ours", "processor"]
    rows = [
        (part, 1e3 * common.middle([one[part] for one in rounds]), common.spread([one[part] for one in rounds]))
        for part in shown
    ]
    common.table(["part", "ms", "spread"], rows)
    print(
        f"ours: all but SLURM's commands, target below {1e3 * TARGET_S:.0f} ms; processor: this process's own time, "
        "which other programs do not stretch as they do the clock's"
    )


def commands(folder: Path) -> Path:
    """Stand-ins for SLURM's commands that answer at once."""
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        said = "echo Submitted batch job $$" if name == "sbatch" else ":"
        (folder / name).write_text(f"#!/bin/sh\n{said}\n")
        (folder / name).chmod(0o755)
    return folder


def stage_file(folder: Path) -> Path:
    """A chain in which every stage starts from named networks of the one before."""
    stages: dict[str, Any] = {"s0": {"config": "configs/progressive_training.yaml"}}
    for number in range(1, STAGES):
        start = {"stage": f"s{number - 1}", "parts": ["encoder", "decoder_a"]}
        stages[f"s{number}"] = {"config": "configs/progressive_training_stage2.yaml", "init_from": start}
    file = folder / "chain.yaml"
    overrides = {"data.root": str(folder)}
    file.write_text(yaml.safe_dump({"name": "chain", "stages": stages, "overrides": overrides}, sort_keys=False))
    return file


def hand_in(file: Path, folder: Path) -> None:
    """What `python slurm/submit.py --stages FILE --run-dir FOLDER` does once all is imported."""
    preflight._NETWORKS.clear()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        code = submit.main(["--stages", str(file), "--run-dir", str(folder)])
    assert code == 0, f"exit code {code}"


def timed(function: Callable[..., Any], part: str, clock: Counter[str]) -> Callable[..., Any]:
    """The same function, its seconds added to the clock."""

    def measured(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            clock[part] += time.perf_counter() - began  # type: ignore[assignment]

    return measured


if __name__ == "__main__":
    main()
