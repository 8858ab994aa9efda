"""How long submitting a chain of ten stages takes, without imports: SLURM's commands, and our code around them.

SLURM's commands are stand-ins that do nothing; a real sbatch adds the response time of its controller, ten times.
"""

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import yaml
from submitit.core import utils

from benchmarks.support import common
from quell.slurm import submit
from quell.slurm.stages import plan, preflight
from quell.slurm.submission import chain, client, snapshot, start_checks

STAGES = 10
SIDE_PX = 64
TARGET_S = 0.5

STARTS = "try whether every run would start"

PARTS: dict[str, tuple[Any, str]] = {
    "check every configuration": (plan, "make"),
    STARTS: (start_checks, "refuse_what_would_not_start"),
    "copy the code": (snapshot, "take"),
    "ask git for the commit": (snapshot, "commit"),
    "submit, with SLURM's commands": (chain, "submit"),
    "sbatch": (utils.CommandFunction, "__call__"),
    "squeue and scontrol": (client, "call"),
}
"""Row of the table -> owner and name of the function that is timed."""


def main() -> None:
    """Submit the chain several times and print the table."""
    quick = common.parse_options(__doc__ or "").quick
    clock: defaultdict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory(prefix="quell-bench-") as temporary:
        folder = Path(temporary)
        os.environ["PATH"] = f"{write_commands(folder / 'bin')}{os.pathsep}{os.environ['PATH']}"
        file = write_stage_file(folder)
        submit_chain(file, folder / "warm-up")  # so that imports are not timed
        for part, (owner, name) in PARTS.items():
            setattr(owner, name, timed(getattr(owner, name), part, clock))
        rounds: list[dict[str, float]] = []
        for number in range(3 if quick else 15):
            clock.clear()
            cpu_start, start = time.process_time(), time.perf_counter()
            submit_chain(file, folder / str(number))
            total = time.perf_counter() - start
            rounds.append({**clock, "all": total, "processor": time.process_time() - cpu_start})
    for seconds in rounds:
        seconds["ours"] = seconds["all"] - seconds["sbatch"] - seconds["squeue and scontrol"] - seconds[STARTS]
    rows = []
    for part in [*PARTS, "all", "ours", "processor"]:
        values = [seconds[part] for seconds in rounds]
        rows.append((part, 1e3 * common.median(values), common.spread(values)))
    common.print_table(["part", "ms", "spread"], rows)
    print(
        f"ours: everything except SLURM's commands and the process that tries the runs, which imports PyTorch; target "
        f"below {1e3 * TARGET_S:.0f} ms; processor: CPU time of this process, which other programs do not lengthen"
    )


def write_commands(folder: Path) -> Path:
    """Write stand-ins for SLURM's commands, which return immediately; returns their folder."""
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        line = "echo Submitted batch job $$" if name == "sbatch" else ":"
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def write_stage_file(folder: Path) -> Path:
    """Write a chain in which every stage warm-starts named networks from the stage before it."""
    stages: dict[str, Any] = {"s0": {"config": "configs/progressive_training.yaml"}}
    for number in range(1, STAGES):
        init_from = {"stage": f"s{number - 1}", "parts": ["encoder", "decoder_a"]}
        stages[f"s{number}"] = {"config": "configs/progressive_training_stage2.yaml", "init_from": init_from}
    file = folder / "chain.yaml"
    common.write_shards(folder / "data", side=SIDE_PX, complex_=True)
    overrides = {"data.root": str(folder / "data"), "data.crop": SIDE_PX}
    file.write_text(yaml.safe_dump({"name": "chain", "stages": stages, "overrides": overrides}, sort_keys=False))
    return file


def submit_chain(file: Path, folder: Path) -> None:
    """Run `python slurm/submit.py --stages FILE --run-dir FOLDER` in this process."""
    preflight._NETWORKS.clear()
    with open(os.devnull, "w", encoding="utf-8") as null, redirect_stdout(null):
        code = submit.main(["--stages", str(file), "--run-dir", str(folder)])
    assert code == 0, f"exit code {code}"


def timed(function: Callable[..., Any], part: str, clock: defaultdict[str, float]) -> Callable[..., Any]:
    """Wrap a function so that its seconds are added to the clock."""

    def wrapper(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            clock[part] += time.perf_counter() - start

    return wrapper


if __name__ == "__main__":
    main()
