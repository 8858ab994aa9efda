"""What holds the training thread up besides training: a checkpoint of 100 MB, a picture for TensorBoard, the start.

A step here is a wait of a few milliseconds, as when a GPU computes: the processor is free for the thread that writes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from benchmarks import _common as common
from launch import checkpoint
from launch.run_folder import RunFolder
from launch.saving import Saver, snapshot
from launch.tracking import Tracker

STEP_S = 0.005
MEGABYTES = 100


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
    saver = Saver()

    def begin() -> None:
        hidden = checkpoint.begin(folder, 1)
        kept = (weights, state) if wait else snapshot((weights, state))

        def write() -> None:
            checkpoint.write_weights(hidden, kept[0], None)
            checkpoint.write_state(hidden, "state.pt", kept[1])
            checkpoint.publish(hidden, {})

        saver.run(write, lambda: None, wait=wait)

    def going_on() -> bool:
        saver.poll()
        return saver._thread is not None

    found = longest_step_ms(begin, going_on)
    saver.settle()
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


def start_s(root: Path, folder: Path) -> float:
    """From the command to the end of a run of one small step."""
    began = time.perf_counter()
    words = ["launch/train.py", "--config", "configs/supervised.yaml", f"data.root={root}", "data.crop=8",
             "data.batch_size=2", "pipeline.network={name: dncnn, depth: 3, width: 4}", "loop.max_steps=1",
             "tracking.tensorboard=false", "--run-dir", str(folder)]
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, cwd=common.ROOT,
                   env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


def imports_s() -> float:
    """The part of it that is `import torch, accelerate`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, accelerate, torch._dynamo"], check=True)
    return time.perf_counter() - began


def main() -> None:
    quick = common.options(__doc__ or "").quick
    rounds = 1 if quick else 7
    with common.temporary() as text:
        folder = Path(text)
        root = common.shards(folder / "data", side=16, count=4)
        rows = []
        for label, once, unit in (
            (f"checkpoint of {MEGABYTES} MB, beside", lambda i: save_stall_ms(folder / f"a{i}", wait=False), "ms"),
            (f"checkpoint of {MEGABYTES} MB, waiting", lambda i: save_stall_ms(folder / f"b{i}", wait=True), "ms"),
            ("four pictures of 320 px, beside training", lambda i: picture_ms(folder / f"c{i}", beside=True), "ms"),
            ("four pictures of 320 px, TensorBoard alone", lambda i: picture_ms(folder / f"d{i}", beside=False), "ms"),
            ("command to the end of one step", lambda i: start_s(root, folder / f"e{i}"), "s"),
            ("of that, importing torch and accelerate", lambda i: imports_s(), "s"),
        ):
            values = [once(i) for i in range(rounds)]
            rows.append([label, f"{common.middle(values):.3g} {unit}", common.spread(values)])
    common.table(["what", "holds up training for", "spread"], rows)


if __name__ == "__main__":
    main()
