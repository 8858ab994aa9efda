"""What holds the training thread up besides training: a checkpoint of 100 MB, a picture for TensorBoard, the start.

And from a signal to the end of the first step that the resumed run takes, the scheduler's own wait left out.

A step here is a wait of a few milliseconds, as when a GPU computes: the processor is free for the thread that writes.
"""

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
from launch.checkpoints import store
from launch.checkpoints.async_writer import AsyncWriter, snapshot
from launch.runs.folder import RunFolder
from launch.runs.tracker import Tracker

STEP_S = 0.005
MEGABYTES = 100
QUIET: dict[str, Any] = {"cwd": common.ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def longest_step_ms(begin: Callable[[], object], going_on: Callable[[], bool]) -> float:
    """The longest step, less its own length, from `begin` inside one until nothing goes on any more."""
    longest, first = 0.0, True
    while first or going_on():
        began = time.perf_counter()
        if first:
            begin()
            first = False
        time.sleep(STEP_S)
        longest = max(longest, time.perf_counter() - began - STEP_S)
    return 1e3 * longest


def save_stall_ms(folder: Path, *, wait: bool) -> float:
    """How long a step is held up by saving MEGABYTES of weights and optimizer state."""
    count = MEGABYTES * 1_000_000 // 4 // 3  # weights and two moments
    weights = {f"w{i}": torch.randn(count // 10) for i in range(10)}
    state = {"moments": [torch.randn(count // 10) for _ in range(20)]}
    writer = AsyncWriter()

    def begin() -> None:
        hidden = store.begin(folder, 1)
        kept = (weights, state) if wait else snapshot((weights, state))

        def write() -> None:
            store.write_weights(hidden, kept[0], None)
            store.write_state(hidden, "state.pt", kept[1])
            store.publish(hidden, {})

        writer.start(write, lambda: None, wait=wait)

    def going_on() -> bool:
        writer.poll()
        return writer._thread is not None

    found = longest_step_ms(begin, going_on)
    writer.finish()
    return found


def picture_ms(folder: Path, *, beside: bool) -> float:
    """How long the training thread needs for four pictures of 320 x 320, the tracker's way or TensorBoard's own."""
    run = RunFolder(folder)
    run.create()
    tracker = Tracker(run, active=True, tensorboard=True)
    picture = (255 * np.random.default_rng(0).random((320, 1280, 3))).astype(np.uint8)
    began = time.perf_counter()
    if beside:
        tracker.images("sample", picture, 1)
    else:
        tracker._board.add_image("sample", picture, 1, dataformats="HWC")
    spent = time.perf_counter() - began
    tracker.close()
    return 1e3 * spent


def command(root: Path, folder: Path, steps: int) -> list[str]:
    """A run of a small network with a line in its log for every step."""
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


def start_s(root: Path, folder: Path) -> float:
    """From the command to the end of a run of one small step."""
    began = time.perf_counter()
    subprocess.run(command(root, folder, 1), check=True, **QUIET)
    return time.perf_counter() - began


def steps_logged(folder: Path) -> int:
    """Steps in a run's log so far."""
    path = RunFolder(folder).metrics_file
    return path.read_text().count('"event": "train"') if path.is_file() else 0


def resumed_s(root: Path, folder: Path) -> float:
    """From a stop signal, by way of the last checkpoint and a new process, to the end of the next step."""

    def until(process: subprocess.Popen[bytes], count: int) -> None:
        while steps_logged(folder) < count:
            if process.poll() is not None:
                sys.exit(f"the run ended by itself with exit code {process.returncode}")
            time.sleep(0.01)

    first = subprocess.Popen(command(root, folder, 10**9), **QUIET)
    until(first, 5)
    began = time.perf_counter()
    first.send_signal(signal.SIGUSR1)
    first.wait()
    done = steps_logged(folder)
    second = subprocess.Popen(command(root, folder, 10**9), **QUIET)
    until(second, done + 1)
    taken = time.perf_counter() - began
    second.kill()
    second.wait()
    return taken


def imports_s() -> float:
    """The part of it that is `import torch, accelerate`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, accelerate, torch._dynamo"], check=True)
    return time.perf_counter() - began


def main() -> None:
    quick = common.options(__doc__ or "").quick
    with common.temporary() as text:
        folder = Path(text)
        root = common.shards(folder / "data", side=16, count=4)
        rows = []
        for label, once, unit, rounds in (
            (f"checkpoint of {MEGABYTES} MB, beside", lambda i: save_stall_ms(folder / f"a{i}", wait=False), "ms", 7),
            (f"checkpoint of {MEGABYTES} MB, waiting", lambda i: save_stall_ms(folder / f"b{i}", wait=True), "ms", 7),
            ("four pictures of 320 px, beside training", lambda i: picture_ms(folder / f"c{i}", beside=True), "ms", 7),
            ("four pictures of 320 px, waiting", lambda i: picture_ms(folder / f"d{i}", beside=False), "ms", 7),
            ("command to the end of a run of one step", lambda i: start_s(root, folder / f"e{i}"), "s", 3),
            ("of that, importing torch and accelerate", lambda i: imports_s(), "s", 3),
            ("signal to the end of the next step, resumed", lambda i: resumed_s(root, folder / f"f{i}"), "s", 3),
        ):
            values = [once(i) for i in range(1 if quick else rounds)]
            rows.append([label, f"{common.middle(values):.3g} {unit}", common.spread(values)])
    common.table(["what", "holds up training for", "spread"], rows)


if __name__ == "__main__":
    main()
