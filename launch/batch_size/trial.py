"""One try: some training steps with one size of batch, in this process, which ends as soon as it uses too much memory.

`python -m quell.launch.batch_size.trial CONFIG STEPS LIMIT_BYTES RESULT`; RESULT is written as JSON.
"""

import itertools
import json
import os
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import torch

from quell.configs import loader
from quell.configs.errors import QuellError, run_command
from quell.launch import cli
from quell.launch.machine import devices, out_of_memory
from quell.launch.proof.steps import assembled
from quell.launch.training import loop
from quell.launch.training.metric_log import median_speed

EXIT_TOO_LARGE = 99
"""Exit code of a try that needs more memory than it may use."""
WATCHED_EVERY_S = 0.02


def main(arguments: list[str]) -> int:
    """Take the steps; the exit code, EXIT_TOO_LARGE where the memory does not suffice."""
    config_file, steps, limit_bytes, result = arguments
    try:
        measure(Path(config_file), int(steps), int(limit_bytes), Path(result))
    except (QuellError, RuntimeError, MemoryError) as error:
        if out_of_memory.is_out_of_memory(error):
            return EXIT_TOO_LARGE
        raise
    return 0


def measure(config_file: Path, steps: int, limit_bytes: int, result: Path) -> None:
    """Train and write what was measured: `peak_bytes` and `images_per_s`."""
    config, device = loader.load(config_file), devices.take_device()
    if device.type == "cpu":
        threading.Thread(target=_watch, args=(limit_bytes,), daemon=True).start()
    elif device.type == "cuda":
        total = devices.total_bytes(device) or limit_bytes
        torch.cuda.set_per_process_memory_fraction(min(limit_bytes / total, 1.0), device)
    with tempfile.TemporaryDirectory() as folder, assembled(config, Path(folder)) as trainer:
        with trainer.batches() as batches:
            loop.train(trainer, itertools.islice(trainer.on_device(batches), steps))
        speed = median_speed(trainer.speeds)["images_per_s"]
    peak = devices.peak_bytes(device)
    if peak is not None and peak > limit_bytes:
        raise MemoryError(f"out of memory: {peak} bytes used")
    result.write_text(json.dumps({"peak_bytes": peak, "images_per_s": speed}), encoding="utf-8")


def _watch(limit_bytes: int) -> None:
    """End this process before it takes the memory of others: on CPU nothing else would until the machine has none."""
    process, pause = psutil.Process(), threading.Event()
    while process.memory_info().rss <= limit_bytes:
        pause.wait(WATCHED_EVERY_S)
    os._exit(EXIT_TOO_LARGE)


if __name__ == "__main__":
    cli.leave(run_command(lambda: main(sys.argv[1:])))
