"""Train several times, one after the other, as one process or as several: one start serves many tests.

A plan is a list of items (see `Item`), all carried out even if one fails; every rank writes RUN_DIR/exit-R.json with
its exit code and what it said. Tests call `train_each`, which carries the plan out in this process, or by the two of
the fixture `pair`. These run this script: `train_each.py FOLDER` carries out what tests put there, FOLDER/plan-N.json,
and writes FOLDER/done-N-R, until there is a file FOLDER/end.
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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from launch import cli, train
from launch.training import loop
from tests.support.scripts import Worlds

TRAIN = loop.train
POLL_S = 0.02
PATIENCE_S, WHOLE_SESSION_S = 800, 10_000
"""How long one plan may take that takes a minute at most on an idle machine, and all that tests do."""


class Item(NamedTuple):
    """One training: launch/train.py's arguments and its run folder, which may begin as the first steps of another."""

    words: Sequence[object]
    run_dir: Path
    first_steps_of: tuple[Path, int] | None = None
    """Another item's run folder and the step of the checkpoint after which it is cut, as if it had been killed."""
    compare: bool = False
    """Whether each rank leaves the weights it ended with in RUN_DIR/learned-R.safetensors."""


class Pair:
    """Two processes that carry out plans, started with the first of them; close it to have them end."""

    size = 2

    def __init__(self, torchrun: Callable[..., Any], folder: Path) -> None:
        self._torchrun, self._folder = torchrun, folder
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[Any] | None = None
        self._plans = 0

    def carry_out(self, plan: str) -> None:
        """Return when both have carried out the plan; fails when they end before, or take too long."""
        if self._running is None:
            script = [Path(__file__), self._folder]
            self._running = self._thread.submit(self._torchrun, script, processes=self.size, timeout_s=WHOLE_SESSION_S)
        place_whole(self._folder / f"plan-{self._plans}.json", plan)
        done = [self._folder / f"done-{self._plans}-{rank}" for rank in range(self.size)]
        self._plans += 1
        deadline = time.monotonic() + PATIENCE_S
        while not all(file.exists() for file in done):
            if self._running.done():
                raise AssertionError(f"they ended too early: {self._running.result()}")
            assert time.monotonic() < deadline, f"the plan was not carried out within {PATIENCE_S:g} s"
            time.sleep(POLL_S)

    def close(self) -> None:
        """Have them end, and wait for that; fails when they did not end well."""
        (self._folder / "end").touch()
        if self._running is not None:
            self._running.result(timeout=PATIENCE_S)
        self._thread.shutdown()


def train_each(items: Sequence[Item], pair: Pair | None = None) -> None:
    """Carry out the items in this process, or by the pair."""
    plan = json.dumps([item._asdict() for item in items], default=str)
    if pair:
        pair.carry_out(plan)
    else:
        carry_out(json.loads(plan), rank=0, worlds=None)


def said(run_dir: Path, processes: int = 1) -> str:
    """What rank 0 said while it trained; fails with what all ranks said if one of them did not end well."""
    files = [run_dir / f"exit-{rank}.json" for rank in range(processes)]
    ended = [json.loads(file.read_text()) for file in files]
    assert not any(rank["code"] for rank in ended), "\n".join(rank["said"] for rank in ended)
    return str(ended[0]["said"])


def main(folder: Path) -> None:
    """Carry out the plans in the folder, in the order of their numbers, until there is an end."""
    worlds = Worlds()
    for number in itertools.count():
        plan = folder / f"plan-{number}.json"
        while not plan.exists():
            if (folder / "end").exists():
                worlds.close()
                return
            time.sleep(POLL_S)
        carry_out(json.loads(plan.read_text()), worlds.rank, worlds)
        (folder / f"done-{number}-{worlds.rank}").touch()


def carry_out(plan: list[dict[str, Any]], rank: int, worlds: Worlds | None) -> None:
    """Train each item; with `worlds` each in a world of its own."""
    for item in plan:
        run_dir = Path(item["run_dir"])
        if rank == 0 and item["first_steps_of"]:
            copy_first_steps(Path(item["first_steps_of"][0]), item["first_steps_of"][1], run_dir)
        if worlds:
            worlds.open()
        heard = io.StringIO()
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            loop.train = partial(leave_weights, rank, run_dir) if item["compare"] else TRAIN
            try:
                code = train.main([*item["words"], "--run-dir", item["run_dir"]])
            except Exception:
                traceback.print_exc()
                code = -1
            finally:
                loop.train = TRAIN
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / f"exit-{rank}.json").write_text(json.dumps({"code": code, "said": heard.getvalue()}))
        gc.collect()  # a pipeline and its hooks refer to each other
        gc.freeze()  # torch's own million objects need not be looked at again after every item


def place_whole(file: Path, text: str) -> None:
    """Write a file that nobody sees half."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)


def copy_first_steps(run: Path, step: int, copy: Path) -> None:
    """A run folder as a kill after the checkpoint of `step` leaves it: what came later is not there."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("summary.json", "exit-*.json", "learned-*"))
    for later in (path for path in (copy / "checkpoints").glob("step-*") if int(path.name[5:]) > step):
        shutil.rmtree(later)


def leave_weights(rank: int, run_dir: Path, trainer: Any, batches: Any) -> str:
    """Train as ever; leave the weights that this rank ends with."""
    ending = TRAIN(trainer, batches)
    weights = {name: value.contiguous() for name, value in trainer.state.pipeline.checkpoint_state().items()}
    save_file(weights, run_dir / f"learned-{rank}.safetensors")
    return ending


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    cli.leave(0)
