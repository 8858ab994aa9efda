"""What `status` prints: a table with a sweep's members folded by state, or JSON; again and again with --watch."""

import dataclasses
import getpass
import json
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from quell.configs.errors import MachineError
from quell.slurm.report.rows import Row, rows
from quell.slurm.submission import client, state
from quell.slurm.submission.client import QueuedJob
from quell.slurm.submission.manifest import Manifest, require_manifest

HEADINGS = ("stage", "job", "state", "node", "step", "loss", "elapsed", "left", "why")
_CLEAR = "\x1b[H\x1b[2J"


def show(root: Path, *, unfold: bool, as_json: bool, every_s: float | None) -> None:
    """Print the status of the submission in a folder; with `every_s` until no stage runs or waits any more.

    Raises:
        ConfigError: Nothing was submitted there.
    """
    while True:
        manifest = require_manifest(root)
        current, note = read(manifest)
        text = to_json(manifest, current, note) if as_json else note + table(manifest, current, unfold=unfold)
        if every_s is not None and not as_json and sys.stdout.isatty():
            text = f"{_CLEAR}{time.strftime('%H:%M:%S')}  {root}\n{text}"
        print(text, end="", flush=True)
        if every_s is None or not any(row.state in (*state.ACTIVE, state.ENDING) for row in current):
            return
        time.sleep(every_s)


def read(manifest: Manifest) -> tuple[list[Row], str]:
    """The rows of a submission, and what has to be said about them: without SLURM they are from the run folders."""
    queue: dict[str, QueuedJob] = {}
    note = ""
    if manifest.executor == "slurm":
        try:
            queue = client.queue()
        except MachineError as error:
            note = f"{error}; the table below is from the run folders alone\n"
    return rows(manifest, queue), note


def table(manifest: Manifest, current: Sequence[Row], *, unfold: bool) -> str:
    """The rows as lines of text, and how to see the curves of the runs."""
    cells: list[tuple[str, ...]] = [HEADINGS]
    for stage in manifest.stages:
        for group in _groups([row for row in current if row.stage == stage], unfold=unfold):
            cells.append(
                _folded(group, sum(row.stage == stage for row in current)) if len(group) > 1 else _line(group[0])
            )
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS) - 1)] + [0]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, *_board_lines(current)]) + "\n"


def to_json(manifest: Manifest, current: Sequence[Row], note: str) -> str:
    """The rows as one line of JSON for programs: all members, times in seconds."""
    tasks = [{**dataclasses.asdict(row), **dataclasses.asdict(row.progress)} for row in current]
    for task in tasks:
        del task["progress"]
    head = {"name": manifest.name, "executor": manifest.executor, "time": time.time(), "note": note.strip()}
    return json.dumps({**head, "tasks": tasks}) + "\n"


def _groups(members: Sequence[Row], *, unfold: bool) -> list[list[Row]]:
    """The rows of a stage, those in one state together unless they are unfolded."""
    if unfold:
        return [[row] for row in members]
    groups: dict[str, list[Row]] = {}
    for row in members:
        groups.setdefault(row.state, []).append(row)
    return list(groups.values())


def _line(row: Row) -> tuple[str, ...]:
    """The cells of one task."""
    progress = row.progress
    step = f"{progress.step}/{progress.steps}" if progress.steps else ""
    loss = f"{progress.loss:.4g}" if progress.loss is not None else ""
    return (
        row.task, row.job or "-", row.state, row.node, step, loss, _clock(row.elapsed_s), _clock(progress.left_s),
        _reason(row),
    )  # fmt: skip


def _folded(group: Sequence[Row], members: int) -> tuple[str, ...]:
    """The cells of several members of a sweep that are in the same state: ranges, and the longest times."""
    first = group[0]
    steps = [row.progress.step for row in group if row.progress.step is not None]
    step = f"{min(steps)}-{max(steps)}/{first.progress.steps}" if steps else ""
    nodes = {row.node for row in group if row.node}
    reasons: dict[str, str] = {}
    for row in group:
        if reason := _reason(row):
            reasons.setdefault(reason, row.task)
    why = next(iter(reasons), "")
    if len(reasons) > 1:
        why = f"{reasons[why]}: {why}; --all shows the others"
    return (
        f"{first.stage} ({len(group)} of {members})", first.job.partition("_")[0] or "-", first.state,
        nodes.pop() if len(nodes) == 1 else f"{len(nodes)} nodes" if nodes else "", step, "",
        _clock(_longest(row.elapsed_s for row in group)), _clock(_longest(row.progress.left_s for row in group)), why,
    )  # fmt: skip


def _reason(row: Row) -> str:
    return row.reason + (f", expected to start {row.expected_start}" if row.expected_start else "")


def _longest(times: Iterable[int | None]) -> int | None:
    return max((seconds for seconds in times if seconds is not None), default=None)


def _clock(seconds: int | None) -> str:
    return "" if seconds is None else f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _board_lines(current: Sequence[Row]) -> list[str]:
    """How to see the curves of the runs that write any, from a machine that has a browser."""
    boards = [Path(row.run_dir).parent for row in current if (Path(row.run_dir) / "tensorboard").is_dir()]
    if not boards:
        return []
    folder = min(boards, key=lambda board: len(board.parts))
    host = socket.gethostname()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        user = "me"
    return [
        "",
        f"curves: tensorboard --logdir {folder} --port 6006 (on this machine), then on yours",
        f"        ssh -N -L 6006:localhost:6006 {user}@{host} and http://localhost:6006",
    ]
