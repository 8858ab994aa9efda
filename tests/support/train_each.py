"""Train several runs one after another, in this process or in two, so that many tests share one start of the workers.

A plan is a list of jobs (see `Job`). All of them are executed, even if one fails, and every rank writes its exit code
and its output to RUN_DIR/exit-R.json. Tests call `train_each`, which executes a plan in this process or in the two
processes of the fixture `worker_pair`. Those run this file as a script: `train_each.py FOLDER` executes the plans that
tests write to FOLDER/plan-N.json, confirms each with FOLDER/done-N-R, and exits when FOLDER/end appears.
"""

import contextlib
import gc
import io
import itertools
import json
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from quell.launch import cli, train
from quell.launch.training import loop
from tests.support.commands import Command, CommandResult
from tests.support.scripts import Rendezvous

TRAIN_LOOP = loop.train
POLL_S = 0.02
PLAN_TIMEOUT_S, SESSION_TIMEOUT_S = 800, 10_000
"""Timeouts of one plan, which takes at most a minute on an idle machine, and of all plans of a test session."""


class Job(NamedTuple):
    """One training: arguments of launch/train.py and a run folder, which may start as a copy of another run."""

    arguments: Sequence[object]
    run_dir: Path
    first_steps_of: tuple[Path, int] | None = None
    """Run folder of another job and the step of the checkpoint after which the copy ends, as if killed there."""
    save_rank_weights: bool = False
    """Whether each rank saves its final weights to RUN_DIR/rank-R-weights.safetensors."""


class WorkerPair:
    """Two processes that execute plans. They start with the first plan and exit at `close`."""

    size = 2

    def __init__(self, torchrun: Command, folder: Path) -> None:
        self._torchrun, self._folder = torchrun, folder
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[CommandResult] | None = None
        self._plans = 0

    def execute(self, plan: str) -> None:
        """Wait until both processes have executed the plan; fail if they exit before that, or take too long."""
        if self._running is None:
            script = [Path(__file__), self._folder]
            self._running = self._thread.submit(
                self._torchrun, script, processes=self.size, timeout_s=SESSION_TIMEOUT_S
            )
        write_atomically(self._folder / f"plan-{self._plans}.json", plan)
        done = [self._folder / f"done-{self._plans}-{rank}" for rank in range(self.size)]
        self._plans += 1
        deadline = time.monotonic() + PLAN_TIMEOUT_S
        while not all(file.exists() for file in done):
            if self._running.done():
                raise AssertionError(f"the workers exited early: {self._running.result()}")
            assert time.monotonic() < deadline, f"the plan was not executed within {PLAN_TIMEOUT_S:g} s"
            time.sleep(POLL_S)

    def close(self) -> None:
        """Let the processes exit, wait for them, and fail if their exit code is not 0."""
        (self._folder / "end").touch()
        if self._running is not None:
            self._running.result(timeout=PLAN_TIMEOUT_S)
        self._thread.shutdown()


def train_each(jobs: Sequence[Job], worker_pair: WorkerPair | None = None) -> None:
    """Execute the jobs in this process, or in the two processes of `worker_pair`."""
    plan = json.dumps([job._asdict() for job in jobs], default=str)
    if worker_pair:
        worker_pair.execute(plan)
    else:
        execute(json.loads(plan), rank=0, rendezvous=None)


def training_output(run_dir: Path, processes: int = 1) -> str:
    """What rank 0 printed while it trained; if any rank failed, fail and show what all ranks printed."""
    ranks = [json.loads((run_dir / f"exit-{rank}.json").read_text()) for rank in range(processes)]
    assert not any(rank["code"] for rank in ranks), "\n".join(rank["output"] for rank in ranks)
    return str(ranks[0]["output"])


def main(folder: Path) -> None:
    """Execute the plans in the folder in the order of their numbers, until FOLDER/end exists."""
    rendezvous = Rendezvous()
    for number in itertools.count():
        plan = folder / f"plan-{number}.json"
        while not plan.exists():
            if (folder / "end").exists():
                rendezvous.close()
                return
            time.sleep(POLL_S)
        execute(json.loads(plan.read_text()), rendezvous.rank, rendezvous)
        (folder / f"done-{number}-{rendezvous.rank}").touch()


def execute(plan: list[dict[str, Any]], rank: int, rendezvous: Rendezvous | None) -> None:
    """Train the jobs of a plan one after another; with a rendezvous, each in a process group of its own."""
    for job in plan:
        run_dir = Path(job["run_dir"])
        if rank == 0 and job["first_steps_of"]:
            copy_first_steps(Path(job["first_steps_of"][0]), job["first_steps_of"][1], run_dir)
        if rendezvous:
            rendezvous.open()
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            loop.train = partial(train_and_save_weights, rank, run_dir) if job["save_rank_weights"] else TRAIN_LOOP
            try:
                code = train.main([*job["arguments"], "--run-dir", job["run_dir"]])
            except Exception:
                traceback.print_exc()
                code = -1
            finally:
                loop.train = TRAIN_LOOP
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / f"exit-{rank}.json").write_text(json.dumps({"code": code, "output": output.getvalue()}))
        gc.collect()  # a pipeline and its hooks refer to each other
        gc.freeze()  # spares later collections the million objects that importing torch has created


def write_atomically(file: Path, text: str) -> None:
    """Write a file that appears only when it is complete."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)


def copy_first_steps(run: Path, step: int, copy: Path) -> None:
    """Copy a run folder as a kill right after the checkpoint of `step` would have left it."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("summary.json", "exit-*.json", "rank-*-weights.*"))
    for later in (path for path in (copy / "checkpoints").glob("step-*") if int(path.name[5:]) > step):
        shutil.rmtree(later)


def train_and_save_weights(rank: int, run_dir: Path, trainer: Any, batches: Any) -> str:
    """Run the training loop, then save the weights of this rank."""
    outcome = TRAIN_LOOP(trainer, batches)
    weights = {name: value.contiguous() for name, value in trainer.state.pipeline.checkpoint_state().items()}
    save_file(weights, run_dir / f"rank-{rank}-weights.safetensors")
    return outcome


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    cli.leave(0)
