"""What holds up the training thread besides training: a checkpoint of 100 MB, pictures for TensorBoard, starting up.

Also the time from a stop signal to the end of the resumed run's first step, without a scheduler's queue. Training is
simulated by waits of a few milliseconds, as when a GPU computes: the processor is free for the thread that writes.
"""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from benchmarks.support import common
from quell.launch.checkpoints import store
from quell.launch.checkpoints.async_writer import AsyncWriter
from quell.launch.checkpoints.snapshot import Snapshots
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker

STEP_S = 0.005
MEGABYTES = 100
QUIET: dict[str, Any] = {"cwd": common.ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def longest_stall_ms(begin: Callable[[], object], is_running: Callable[[], bool]) -> float:
    """By how much the slowest step is too long, from the step that calls `begin` until nothing is running any more."""
    longest_s, first = 0.0, True
    while first or is_running():
        start = time.perf_counter()
        if first:
            begin()
            first = False
        time.sleep(STEP_S)
        longest_s = max(longest_s, time.perf_counter() - start - STEP_S)
    return 1e3 * longest_s


def save_stall_ms(folder: Path, *, wait: bool) -> float:
    """How long saving MEGABYTES of weights and optimizer state holds up a step; `wait`: without the writer's thread."""
    count = MEGABYTES * 1_000_000 // 4 // 3  # weights and two moments
    weights = {f"w{i}": torch.randn(count // 10) for i in range(10)}
    state = {"moments": [torch.randn(count // 10) for _ in range(20)]}
    writer, snapshots = AsyncWriter(), Snapshots()
    snapshots.take((weights, state))  # in a run, the memory is allocated at the first log line

    def begin() -> None:
        unpublished = store.begin(folder, 1)
        take = (lambda: (weights, state)) if wait else snapshots.take((weights, state))

        def write() -> None:
            saved_weights, saved_state = take()
            store.write_weights(unpublished, saved_weights, None)
            store.write_state(unpublished, "state.pt", saved_state)
            store.publish(unpublished, {})

        writer.start(write, lambda: None, wait=wait)

    def is_writing() -> bool:
        writer.poll()
        return writer._thread is not None

    stall_ms = longest_stall_ms(begin, is_writing)
    writer.finish()
    return stall_ms


def pictures_ms(folder: Path, *, in_background: bool) -> float:
    """How long four pictures of 320 x 320 hold up the training thread, by the tracker or by writing it at once."""
    run = RunFolder(folder)
    run.create()
    tracker = Tracker(run, active=True, tensorboard=True)
    pictures = (255 * np.random.default_rng(0).random((320, 1280, 3))).astype(np.uint8)
    board = tracker._board
    assert board is not None
    start = time.perf_counter()
    if in_background:
        tracker.images("sample", pictures, 1)
    else:
        board.picture("sample", pictures, 1)
    elapsed_s = time.perf_counter() - start
    tracker.close()
    return 1e3 * elapsed_s


def training_command(root: Path, folder: Path, steps: int) -> list[str]:
    """The command that trains a small network and logs every step."""
    return [
        sys.executable,
        "launch/train.py",
        "--config",
        "configs/supervised.yaml",
        f"data.root={root}",
        "data.crop=8",
        "data.batch_size=2",
        "pipeline.network={name: dncnn, depth: 3, width: 4}",
        f"loop.max_steps={steps}",
        "loop.epochs=null",
        "loop.threads=1",
        "tracking.tensorboard=false",
        "tracking.log_every=1",
        "evaluation.every_epochs=null",
        "checkpoint.every_steps=1000000000",
        "--run-dir",
        str(folder),
    ]


def processor_s(command: list[str]) -> float:
    """Seconds of processor time of a command, which other programs do not lengthen as they do its wall time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, **QUIET)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def start_s(root: Path, folder: Path) -> float:
    """Processor time of a whole run of one small step."""
    return processor_s(training_command(root, folder, 1))


def steps_logged(folder: Path) -> int:
    """Number of steps in a run's log so far."""
    path = RunFolder(folder).metrics_file
    return path.read_text().count('"event": "train"') if path.is_file() else 0


def resume_s(root: Path, folder: Path) -> float:
    """Seconds from a stop signal, through a checkpoint and a new process, to the end of the next step."""

    def wait_for_steps(process: subprocess.Popen[bytes], count: int) -> None:
        while steps_logged(folder) < count:
            if process.poll() is not None:
                sys.exit(f"the run ended early, with exit code {process.returncode}")
            time.sleep(0.01)

    first = subprocess.Popen(training_command(root, folder, 10**9), **QUIET)
    wait_for_steps(first, 5)
    start = time.perf_counter()
    first.send_signal(signal.SIGUSR1)
    first.wait()
    logged = steps_logged(folder)
    second = subprocess.Popen(training_command(root, folder, 10**9), **QUIET)
    wait_for_steps(second, logged + 1)
    elapsed_s = time.perf_counter() - start
    second.kill()
    second.wait()
    return elapsed_s


def imports_s() -> float:
    """Processor time of importing torch and accelerate, a part of `start_s`."""
    return processor_s([sys.executable, "-c", "import torch, accelerate"])


def main() -> None:
    quick = common.parse_options(__doc__ or "").quick
    with common.temporary_folder() as temporary:
        folder = Path(temporary)
        root = common.write_shards(folder / "data", side=16, count=4)
        checkpoint, pictures = f"checkpoint of {MEGABYTES} MB", "four pictures of 320 px"
        rows = []
        for label, measure, unit, rounds in (
            (f"{checkpoint}, in the background", lambda i: save_stall_ms(folder / f"a{i}", wait=False), "ms", 7),
            (f"{checkpoint}, waiting", lambda i: save_stall_ms(folder / f"b{i}", wait=True), "ms", 7),
            (f"{pictures}, in the background", lambda i: pictures_ms(folder / f"c{i}", in_background=True), "ms", 7),
            (f"{pictures}, waiting", lambda i: pictures_ms(folder / f"d{i}", in_background=False), "ms", 7),
            (
                "processor time of a command that runs one step",
                lambda i: start_s(root, folder / f"e{i}"),
                "s",
                3,
            ),
            ("of that, importing torch and accelerate", lambda i: imports_s(), "s", 3),
            ("signal to the end of the next step, resumed", lambda i: resume_s(root, folder / f"f{i}"), "s", 3),
        ):
            values = [measure(i) for i in range(1 if quick else rounds)]
            rows.append([label, f"{common.median(values):.3g} {unit}", common.spread(values)])
    common.print_table(["operation", "blocks training for", "spread"], rows)


if __name__ == "__main__":
    main()
