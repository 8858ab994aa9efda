"""The log of a run: damage to it stops nobody, TensorBoard shows the same points, and a full disk is one sentence."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from quell.configs.errors import MachineError
from quell.configs.support.event_log import curves_of, read_events
from quell.launch.runs import board
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
from tests.support.mutations import mutate_json_lines

Points = dict[str, list[tuple[int, float]]]


STARTED: list[Tracker] = []


def start(folder: RunFolder, resumed_at: int = 0, *, tensorboard: bool = True) -> Tracker:
    """A tracker as of a new process; one that was there before is left as a kill leaves it."""
    STARTED.append(Tracker(folder, active=True, tensorboard=tensorboard, resumed_at=resumed_at))
    return STARTED[-1]


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while STARTED:
        STARTED.pop().close()


def train(tracker: Tracker, steps: range) -> None:
    for step in steps:
        tracker.event("train", step, {"loss_a": 1 / step, "epoch": step / 4, "gone": float("nan")})
        if step % 2 == 0:
            tracker.event("eval", step, {"psnr": 20 + step, "epoch": step / 4, "noisy_psnr": None})
            tracker.images("pd", np.full((8, 8, 3), step, np.uint8), step)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.create()
    return run


def board_points(folder: RunFolder) -> Points:
    accumulator = EventAccumulator(str(folder.tensorboard), {"scalars": 0, "images": 0})
    accumulator.Reload()
    return {
        tag: [(point.step, round(point.value, 4)) for point in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def log_points(folder: RunFolder) -> Points:
    points: Points = {}
    for event in read_events(folder.metrics_file):
        for name, value in curves_of(event).items():
            points.setdefault(name, []).append((event["step"], round(value, 4)))
    return points


def test_every_event_is_in_both_at_once(folder: RunFolder) -> None:
    tracker = start(folder)
    train(tracker, range(1, 6))
    assert board_points(folder) == log_points(folder)  # while the run goes on: a SIGKILL now would lose nothing
    assert log_points(folder)["train/loss_a"][0] == (1, 1.0) and log_points(folder)["val/psnr"] == [(2, 22), (4, 24)]
    tracker.close()


@pytest.mark.parametrize("resumed_at", [0, 2, 3, 5])
def test_a_restart_shows_each_point_once(folder: RunFolder, resumed_at: int) -> None:
    """Also where the run was killed before its first checkpoint."""
    train(start(folder), range(1, 6))
    for _ in range(3):
        tracker = start(folder, resumed_at)
        train(tracker, range(resumed_at + 1, 7))
        assert board_points(folder) == log_points(folder)
        assert [step for step, _ in board_points(folder)["train/loss_a"]] == [1, 2, 3, 4, 5, 6]
    assert len(list(folder.tensorboard.iterdir())) == 1


def test_pictures_and_texts_survive_a_restart_once(folder: RunFolder) -> None:
    for resumed_at, steps in ((0, range(1, 5)), (2, range(3, 7)), (4, range(5, 7))):
        tracker = start(folder, resumed_at)
        tracker.text("config", "a: 1")
        train(tracker, steps)
        tracker.close()
    accumulator = EventAccumulator(str(folder.tensorboard), {"images": 0})
    accumulator.Reload()
    assert [image.step for image in accumulator.Images("pd")] == [2, 4, 6]


def test_half_a_record_and_foreign_files_do_not_matter(folder: RunFolder) -> None:
    train(start(folder), range(1, 4))
    (file,) = folder.tensorboard.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    (folder.tensorboard / "rank0.pt.trace.json").write_text("{}")
    (folder.tensorboard / "events.out.tfevents.0.other").write_bytes(b"\xff" * 100)
    (folder.tensorboard / f"1{board._UNFINISHED}").write_bytes(b"")
    train(start(folder, 3), range(4, 6))
    assert board_points(folder) == log_points(folder)
    assert {path.name.split(".")[0] for path in folder.tensorboard.iterdir()} == {"events", "rank0"}


KILLED = """
import sys
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Tracker
folder, resumed_at = RunFolder(sys.argv[1]), int(sys.argv[2])
tracker = Tracker(folder, active=True, tensorboard=True, resumed_at=resumed_at)
print("ready", flush=True)
for step in range(resumed_at + 1, 10**6):
    tracker.event("train", step, {"loss_a": 1 / step, "epoch": step / 4})
"""


def test_after_a_kill_at_any_moment_both_show_the_same_points(folder: RunFolder, root: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder.path), "0"], cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    while len(folder.metrics_file.read_bytes()) < 20_000:
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    logged, shown = log_points(folder), board_points(folder)
    assert all(shown[name] in (logged[name], logged[name][:-1]) for name in logged)  # the last may be half written
    start(folder, 50).close()
    assert board_points(folder) == log_points(folder)


def test_damaged_lines_are_set_aside_and_said(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = start(folder, tensorboard=False)
    train(tracker, range(1, 4))
    tracker.close()
    lines = folder.metrics_file.read_bytes().splitlines()
    lines[1] = lines[1].replace(b'"event"', b'"evant"')
    lines[2] = b"\xff\xfe\x00"
    folder.metrics_file.write_bytes(b"\n".join(lines) + b'\n{"event": "tr')
    assert len(read_events(folder.metrics_file)) == len(lines) - 2
    assert "left out 2 damaged lines" in capsys.readouterr().err
    resumed = start(folder, 3, tensorboard=False)
    resumed.close()
    assert "damaged log: 2 damaged lines of" in capsys.readouterr().err
    assert "moved to metrics.damaged.jsonl" in resumed.warnings["damaged log"]
    assert (folder.path / "metrics.damaged.jsonl").read_bytes().count(b"\n") == 2
    assert all(json.loads(line)["event"] for line in folder.metrics_file.read_text().splitlines())


def test_no_damage_to_the_log_stops_a_start(folder: RunFolder) -> None:
    tracker = start(folder, tensorboard=False)
    train(tracker, range(1, 6))
    tracker.close()
    intact, random = folder.metrics_file.read_bytes(), np.random.default_rng(11)
    for _ in range(150):
        folder.metrics_file.write_bytes(mutate_json_lines(intact, random))
        resumed = start(folder, 3, tensorboard=False)
        resumed.event("train", 4, {"loss_a": 1.0})
        resumed.close()
        events = read_events(folder.metrics_file)
        assert events[-1]["step"] == 4 and all(event["step"] <= 4 for event in events)


class FullDisk:
    """A file on a disk that is full."""

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_a_full_disk_under_tensorboard_is_a_warning(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    unhandled: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    tracker = start(folder)
    assert tracker._board is not None
    tracker._board.close()
    tracker._board._file = FullDisk()  # type: ignore[assignment]
    tracker._board._records = board.RecordWriter(tracker._board._file)
    tracker.images("pd", np.zeros((8, 8, 3), np.uint8), 1)
    train(tracker, range(1, 4))
    tracker.close()
    assert not unhandled and "No space left on device" in tracker.warnings["tensorboard"]
    assert len(log_points(folder)["train/loss_a"]) == 3
    start(folder, 3).close()
    assert board_points(folder) == log_points(folder)


def test_a_full_disk_under_the_log_is_one_sentence_that_names_it(folder: RunFolder) -> None:
    tracker = start(folder, tensorboard=False)
    tracker._file.close()
    tracker._file = FullDisk()  # type: ignore[assignment]
    with pytest.raises(MachineError, match=r"run/metrics.jsonl: No space left on device: free space"):
        tracker.event("train", 1, {"loss_a": 1.0})


def test_a_log_that_is_no_file_is_refused(folder: RunFolder) -> None:
    folder.metrics_file.mkdir()
    with pytest.raises(MachineError, match="metrics.jsonl: is not a file"):
        start(folder)
