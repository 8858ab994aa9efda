"""How trackers are fed: in order, each point once over all starts of a run, never holding up or ending training."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from quell.configs.support.event_log import curves_of, read_events
from quell.configs.tracking import TrackingConfig
from quell.launch.runs.folder import RunFolder
from quell.launch.runs.tracker import Ending, Tracker
from quell.launch.runs.trackers import choice, relay
from quell.launch.runs.trackers.backend import Backend, TrackedRun
from quell.launch.runs.trackers.choice import Relays
from quell.launch.runs.trackers.ledger import Ledger, Steps, line_name

PATIENCE_S = 60.0
received: dict[str, list[tuple[str, int]]] = {}
"""Id of a run -> what the tracker of these tests was sent: curves by kind, pictures by name."""


class Recorder(Backend):
    """A tracker whose server is `received`."""

    fails_at: int | None = None
    failures = 1_000
    """How often it fails."""
    endings: ClassVar[list[str]] = []
    blocks = threading.Event()

    def start(self) -> str:
        self.blocks.wait(PATIENCE_S)
        self.tracker = self
        self.name = self.identity or f"run {len(received)}"
        received.setdefault(self.name, [])
        return self.name

    def configure(self) -> None:
        assert "tracking" in self.run.config

    def log(self, values: dict[str, float], step: int) -> None:
        if step == type(self).fails_at and type(self).failures > 0:
            type(self).failures -= 1
            raise ConnectionError("no route to https://me:secret@host")
        received[self.name].append((next(iter(values)).split("/")[0], step))

    def picture(self, name: str, picture_HWC: np.ndarray, step: int) -> None:
        assert picture_HWC.dtype == np.uint8
        received[self.name].append((name, step))

    def finish(self, ending: Ending) -> None:
        self.endings.append(ending)


@pytest.fixture(autouse=True)
def _recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    received.clear()
    monkeypatch.setattr(choice, "BACKENDS", {"mlflow": Recorder})
    monkeypatch.setattr(Recorder, "fails_at", None)
    monkeypatch.setattr(Recorder, "failures", 1_000)
    monkeypatch.setattr(Recorder, "endings", [])
    Recorder.blocks.set()
    yield
    Recorder.blocks.set()


def start(
    run_dir: Path,
    resumed_at: int = 0,
    line: str = "",
    *,
    same: bool = True,
    origin: dict[str, str] | None = None,
    offline: bool = False,
) -> Tracker:
    """The log of a new process, with its trackers."""
    folder = RunFolder(run_dir)
    folder.create()
    tracker = Tracker(folder, active=True, tensorboard=False, resumed_at=resumed_at)
    tracking = TrackingConfig(trackers=("mlflow",), offline=offline)
    run = TrackedRun("run", run_dir, tracking, {"tracking": {}})
    tracker.also = choice.start(run, Ledger(run_dir, line, is_same_run=same, origin=origin), tracker.events)
    return tracker


def train(tracker: Tracker, steps: range) -> None:
    for step in steps:
        tracker.event("train", step, {"loss_a": 1 / step})
        if step % 2 == 0:
            tracker.images("pd", np.zeros((8, 8, 3), np.uint8), step)
            tracker.event("eval", step, {"psnr": 20.0 + step})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def expected(last: int, *, pictures: tuple[int, ...]) -> list[tuple[str, int]]:
    found = []
    for step in range(1, last + 1):
        found.append(("train", step))
        if step % 2 == 0:
            found += [("pd", step)] * (step in pictures) + [("val", step)]
    return found


def test_all_starts_are_one_run_whose_steps_never_go_backward(tmp_path: Path) -> None:
    first = start(tmp_path / "run")
    train(first, range(1, 7))
    first.close(PATIENCE_S)
    second = start(tmp_path / "run", resumed_at=3)  # killed at step 6, the last checkpoint was of step 3
    train(second, range(4, 9))
    second.close(PATIENCE_S)
    assert received == {"run 0": expected(8, pictures=(2, 4, 6, 8))}


def test_what_a_tracker_missed_is_sent_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "fails_at", 3)
    first = start(tmp_path / "run")
    train(first, range(1, 7))
    first.close(PATIENCE_S)
    assert received == {"run 0": expected(2, pictures=(2,))}
    assert "failed (no route to https://***@host)" in first.warnings["mlflow"]
    monkeypatch.setattr(Recorder, "fails_at", None)
    second = start(tmp_path / "run", resumed_at=6)
    train(second, range(7, 9))
    second.close(PATIENCE_S)
    assert received == {"run 0": expected(8, pictures=(2, 8))}  # pictures are in no log


def test_a_tracker_that_fails_is_started_again_and_sent_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(Recorder, "fails_at", 3)
    monkeypatch.setattr(Recorder, "failures", 4)
    tracker = start(tmp_path / "run")
    train(tracker, range(1, 7))
    wait_for(lambda: len(received["run 0"]) >= 6 + 3)  # six steps of training, three evaluations
    train(tracker, range(7, 9))
    tracker.close(PATIENCE_S, "finished")
    curves = [item for item in received["run 0"] if item[0] != "pd"]
    assert curves == expected(8, pictures=()) and ("pd", 8) in received["run 0"]
    assert Recorder.endings == 4 * ["stopped"] + ["finished"]
    problems = [e["message"] for e in read_events(tmp_path / "run" / "metrics.jsonl") if e["event"] == "warning"]
    assert len(problems) == 2 and "tries again from time to time" in problems[0]
    assert "has been sent all curves since" in problems[1] == tracker.warnings["mlflow"]


def test_the_end_of_a_run_does_not_wait_for_the_next_attempt_but_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "fails_at", 2)
    monkeypatch.setattr(Recorder, "failures", 1)
    tracker = start(tmp_path / "run")
    train(tracker, range(1, 4))
    wait_for(lambda: Recorder.failures == 0)
    train(tracker, range(4, 6))
    tracker.close(PATIENCE_S, "failed")
    assert [item for item in received["run 0"] if item[0] != "pd"] == expected(5, pictures=())
    assert Recorder.endings == ["stopped", "failed"]


def test_it_is_told_how_the_run_ended(tmp_path: Path) -> None:
    endings: list[Ending] = ["stopped", "failed", "finished"]
    for ending in endings:
        start(tmp_path / "run").close(PATIENCE_S, ending)
    assert Recorder.endings == endings


def test_a_tracker_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    Recorder.blocks.clear()
    tracker = start(tmp_path / "run")
    train(tracker, range(1, 2 * relay.MOST_PICTURES + 5))
    tracker.close(0.0)
    assert "has not taken everything in time" in tracker.warnings["mlflow"] and received == {}
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert sum('"event": "train"' in line for line in lines) == 2 * relay.MOST_PICTURES + 4
    assert sum("pictures are dropped" in line for line in lines) == 1


def test_a_return_to_an_older_checkpoint_is_a_run_of_its_own_with_the_curves_up_to_there(tmp_path: Path) -> None:
    first = start(tmp_path / "run")
    train(first, range(1, 7))
    first.close(PATIENCE_S)
    line = line_name([(0, ""), (4, "0123456789abcdef")])
    assert line == "4-0123456789ab" and line_name([(0, "")]) == line_name([]) == ""
    for steps in (range(5, 6), range(6, 9)):  # and its own resumption continues it
        again = start(tmp_path / "run", resumed_at=steps.start - 1, line=line)
        train(again, steps)
        again.close(PATIENCE_S)
    assert received == {
        "run 0": expected(6, pictures=(2, 4, 6)),
        "run 1": expected(8, pictures=(6, 8)),
    }


def test_another_configuration_in_the_folder_is_another_run(tmp_path: Path) -> None:
    for same in (True, True, False):
        tracker = start(tmp_path / "run", same=same)
        train(tracker, range(1, 4))
        tracker.close(PATIENCE_S)
    assert received == {"run 0": expected(3, pictures=(2,)), "run 1": expected(3, pictures=(2,))}


def test_a_run_from_zero_is_another_one_where_its_code_or_data_are(tmp_path: Path) -> None:
    first, other = {"code": "a", "data": "1"}, {"code": "a", "data": "2"}
    for origin in (first, first, None, other, other):  # None is a run that continues from a checkpoint
        tracker = start(tmp_path / "run", origin=origin)
        train(tracker, range(1, 4))
        tracker.close(PATIENCE_S)
    assert received == {"run 0": expected(3, pictures=(2,)), "run 1": expected(3, pictures=(2,))}


def test_what_is_in_files_only_is_sent_once_there_is_a_network(tmp_path: Path) -> None:
    for offline in (True, True, False, False, True):
        tracker = start(tmp_path / "run", offline=offline)
        train(tracker, range(1, 4))
        tracker.close(PATIENCE_S)
    assert received == {"run 0": 2 * expected(3, pictures=(2,))}


def test_a_tracker_that_is_safe_only_at_its_end_is_sent_everything_again_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "keeps_at_once", False)
    killed = start(tmp_path / "run")
    train(killed, range(1, 4))
    while len(received.get("run 0", [])) < 5:
        threading.Event().wait(0.01)
    received["run 0"].clear()  # as Comet's archive, which is written at the end
    again = start(tmp_path / "run", resumed_at=2)
    train(again, range(3, 5))
    again.close(PATIENCE_S)
    assert received == {"run 0": expected(4, pictures=(4,))}
    killed.close(PATIENCE_S)


def test_a_damaged_or_older_ledger_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_text('{"line": "", "ids": [1], "sent": {"wandb": {"val": "x"}, "mlflow": 3}}')
    ledger = Ledger(tmp_path, "")
    assert (ledger.id_of("wandb"), ledger.sent("wandb"), ledger.sent("mlflow")) == (None, {}, {})
    (tmp_path / "trackers.json").unlink()
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "quell_run_id").write_text("0123456789abcdef\n")  # of version 0.2
    assert Ledger(tmp_path, "").id_of("wandb") == "0123456789abcdef"
    assert Ledger(tmp_path, "4-aa").id_of("wandb") is None


def test_secrets_are_masked_at_any_depth() -> None:
    settings: dict[str, Any] = {"data": {"root": "https://me:pw@host/x", "list": ["hf_" + 20 * "a", 3]}, "n": None}
    masked = choice.without_secrets(settings)
    assert masked == {"data": {"root": "https://***@host/x", "list": ["***", 3]}, "n": None}


def test_other_processes_have_no_trackers_and_draw_nothing(tmp_path: Path) -> None:
    tracker = Tracker(RunFolder(tmp_path), active=False, tensorboard=True)
    tracker.images("pd", np.zeros((8, 24, 3), np.uint8), 1)
    assert not tracker.draws and tracker.also is None
    assert choice.start(TrackedRun("run", tmp_path, TrackingConfig(), {}), Ledger(tmp_path, ""), []) is None


def test_relays_are_an_outlet(tmp_path: Path) -> None:
    tracker = start(tmp_path / "run")
    assert isinstance(tracker.also, Relays) and tracker.draws
    tracker.close(PATIENCE_S)
    assert curves_of({"event": "train", "step": 1, "time": 0.0, "loss": 1.0}) == {"train/loss": 1.0}
    unused: Steps = Ledger(tmp_path / "run", "").sent("mlflow")
    assert unused == {}
