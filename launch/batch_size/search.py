"""The work of `quell batch-size`: double the samples at a time until they do not fit, halve the gap, advise."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quell.configs import loader
from quell.configs.batching import batch_problem
from quell.configs.errors import MachineError
from quell.configs.schema import RunConfig
from quell.configs.support import child_process
from quell.configs.support.json_files import read_json
from quell.configs.support.paths import import_folder
from quell.launch.batch_size import memory
from quell.launch.batch_size.trial import EXIT_TOO_LARGE
from quell.launch.evaluation.report import markdown_table
from quell.launch.machine import devices
from quell.launch.machine.out_of_memory import in_words
from quell.launch.proof.small_configs import only_training

_KILLED = 128 + 9
"""Exit code of a process that the system killed, as it does where a machine has no memory left."""
FINEST = 8
"""The largest size that fits is found to within an eighth of itself."""


@dataclass(frozen=True)
class Measured:
    """What one size needed."""

    samples: int
    """At a time, on one process."""
    fits: bool
    peak_bytes: int | None = None
    images_per_s: float | None = None


Try = Callable[[int], Measured]
"""Takes training steps with so many samples at a time."""


def run(options: argparse.Namespace) -> int:
    """Try sizes, print what they needed and what to set; the exit code."""
    config = loader.load(options.config, options.overrides)
    device = devices.take_device()
    given = options.memory_gb
    whole = given * 2**30 if given is not None else memory.of_one_process(device, options.processes)
    limit = int(whole * (1 - options.headroom))
    print(f"{config.name} on {devices.describe(device)}, at most {in_words(limit)} on each process", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tried = search(lambda samples: _try(config, samples, options.steps, limit, Path(folder)), options.largest)
    print(f"\n{_table(tried)}")
    fitting = [one.samples for one in tried if one.fits]
    if not fitting:
        raise MachineError(
            f"not even one sample fits into {in_words(limit)}: lower data.crop, choose smaller networks, or allow more "
            "with --memory-gb or --headroom"
        )
    print("\n".join(advice(config, max(fitting), options.processes, is_limit=len(fitting) < len(tried))))
    return 0


def search(attempt: Try, largest: int) -> list[Measured]:
    """What each size needed that was tried, by size.

    Args:
        attempt: Tries a size.
        largest: The largest size to try.
    """
    tried: list[Measured] = []
    samples = 1
    while True:
        tried.append(attempt(samples))
        if not tried[-1].fits or samples == largest:
            break
        samples = min(2 * samples, largest)
    low = max((one.samples for one in tried if one.fits), default=0)
    high = tried[-1].samples if not tried[-1].fits else low
    while low and high - low > max(low // FINEST, 1):
        middle = (low + high) // 2
        tried.append(attempt(middle))
        low, high = (middle, high) if tried[-1].fits else (low, middle)
    return sorted(tried, key=lambda one: one.samples)


def advice(config: RunConfig, fitting: int, processes: int, *, is_limit: bool) -> list[str]:
    """What to set, in sentences.

    Args:
        config: The configuration that was tried.
        fitting: The most samples at a time on one process that fit.
        processes: Processes that the run will have.
        is_limit: Whether a larger size was tried and does not fit.
    """
    whole = config.data.batch_size
    lines = [f"largest that fits: {fitting} at a time on each process" + ("" if is_limit else ", the largest tried")]
    passes = next(
        (
            count
            for count in range(1, whole + 1)
            if not batch_problem(whole, world_size=processes, accumulate=count)
            and whole // (processes * count) <= fitting
        ),
        None,
    )
    if passes is None:
        lines.append(f"the global batch of {whole} cannot be divided among {processes} processes")
    else:
        each = whole // (processes * passes)
        lines.append(f"same training: data.batch_size={whole} loop.accumulate={passes} ({each} at a time)")
    most = fitting * processes
    if most > whole or passes != 1:
        lines.append(
            f"full memory: data.batch_size={most} loop.accumulate=1 (another global batch: adapt optimizer.lr)"
        )
    return lines


def _try(config: RunConfig, samples: int, steps: int, limit: int, folder: Path) -> Measured:
    """Take steps in a child process; what it says of an error that is not one of memory is raised here."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    settings["data"] |= {"batch_size": samples}
    settings["loop"] |= {"accumulate": 1, "epochs": None, "max_steps": steps + 1}  # the last step would evaluate
    settings["tracking"] = {"log_every": max(steps // 3, 1), "tensorboard": False}
    only_training(settings)
    file, result = folder / f"{samples}.yaml", folder / f"{samples}.json"
    file.write_text(loader.dump(loader.structure(settings)), encoding="utf-8")
    command = [sys.executable, "-m", "quell.launch.batch_size.trial", str(file), str(steps), str(limit), str(result)]
    path = os.pathsep.join(filter(None, [str(import_folder()), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    errors = folder / "errors.txt"
    with errors.open("wb") as stderr:
        started = child_process.Command(command, environment, stdin=subprocess.DEVNULL, stderr=stderr.fileno())
        with child_process.ChildProcesses([started]) as children:
            try:
                code = child_process.shell_exit_code(children.processes[0].wait())
            finally:
                children.kill()
    if code == 0:
        found = read_json(result)
        return Measured(samples, True, found["peak_bytes"], found["images_per_s"])
    if code in (EXIT_TOO_LARGE, _KILLED):
        return Measured(samples, False)
    said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reason = next((line.removeprefix("error: ") for line in said if line.startswith("error: ")), (said or ["?"])[-1])
    raise MachineError(f"training with {samples} samples at a time failed with exit code {code}: {reason}")


def _table(tried: list[Measured]) -> str:
    rows: list[dict[str, str | None]] = [
        {
            "at a time": str(one.samples),
            "peak memory": in_words(one.peak_bytes) if one.peak_bytes else None,
            "images/s": f"{one.images_per_s:.4g}" if one.images_per_s else None,
            "fits": "yes" if one.fits else "no",
        }
        for one in tried
    ]
    return markdown_table(rows)
