"""Train several times, one after the other, as one process or as several: one start serves many tests.

A script: `_train_each.py PLAN.json`, the plan being a list of items (see `Item`), all carried out even if one fails.
Every rank writes RUN_DIR/exit-R.json with its exit code and what it said. Tests call `train_each`.
"""

import contextlib
import gc
import io
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file

from launch import cli, loop, train
from tests._scripts import Worlds

TRAIN = loop.train


class Item(NamedTuple):
    """One training: launch/train.py's arguments and its run folder, which may begin as the first steps of another."""

    words: Sequence[object]
    run_dir: Path
    first_steps_of: tuple[Path, int] | None = None
    """Another item's run folder and the step of the checkpoint after which it is cut, as if it had been killed."""
    compare: bool = False
    """Whether each rank leaves the weights it ended with in RUN_DIR/learned-R.safetensors."""


def train_each(start: Callable[..., Any], items: Sequence[Item], folder: Path, **options: Any) -> None:
    """Start this script by the fixture `command` or, with the option `processes`, `torchrun`."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps([item._asdict() for item in items], default=str))
    alone = [] if "processes" in options else [sys.executable]
    start([*alone, Path(__file__), plan], **options)


def said(run_dir: Path, processes: int = 1) -> str:
    """What rank 0 said while it trained; fails with what all ranks said if one of them did not end well."""
    files = [run_dir / f"exit-{rank}.json" for rank in range(processes)]
    ended = [json.loads(file.read_text()) for file in files]
    assert not any(rank["code"] for rank in ended), "\n".join(rank["said"] for rank in ended)
    return str(ended[0]["said"])


def main(plan: Path) -> None:
    """Carry out the plan."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    worlds = Worlds() if world > 1 else None
    for item in json.loads(plan.read_text()):
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
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / f"exit-{rank}.json").write_text(json.dumps({"code": code, "said": heard.getvalue()}))
        gc.collect()  # a pipeline and its hooks refer to each other
        gc.freeze()  # torch's own million objects need not be looked at again after every item
    if worlds:
        worlds.close()


def copy_first_steps(run: Path, step: int, copy: Path) -> None:
    """A run folder as a kill after the checkpoint of `step` leaves it: what came later is not there."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("summary.json", "exit-*.json", "learned-*"))
    for later in (path for path in (copy / "checkpoints").glob("step-*") if int(path.name[5:]) > step):
        shutil.rmtree(later)


def leave_weights(rank: int, run_dir: Path, session: Any, batches: Any) -> str:
    """Train as ever; leave the weights that this rank ends with."""
    ending = TRAIN(session, batches)
    weights = {name: value.contiguous() for name, value in session.pipeline.learned().items()}
    save_file(weights, run_dir / f"learned-{rank}.safetensors")
    return ending


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    cli.leave(0)
