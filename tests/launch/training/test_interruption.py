"""Ctrl-C saves like a stop signal; pressed twice it ends at once; whatever ends a run, its status says so."""

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from quell.launch.runs.folder import RunFolder
from quell.launch.studies import results
from quell.launch.training import loop, run
from tests.support.commands import Command
from tests.support.runs import checkpoint_of, read_summary, read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG, TrainSmall

OPTIONS = ("checkpoint.every_steps=100", "evaluation.every_epochs=null", "loop.ema_decay=0.9")

PRESSED_TWICE = """
import os, signal, sys
sys.path[0] = {root!r}
from quell.launch import train
from quell.launch.training import loop
from quell.launch.training.stop_signal import StopSignal
train_step = loop.train_step
def pressed_step(phases, pipeline, step, *arguments):
    if step in (1, 2):
        os.kill(os.getpid(), signal.SIGINT)
    return train_step(phases, pipeline, step, *arguments)
loop.train_step = pressed_step
StopSignal.sync_should_stop = lambda self, **options: False  # as if a long evaluation followed
sys.exit(train.main(sys.argv[1:]))
"""


def press_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send a signal to this process while it trains a step."""
    train_step = loop.train_step

    def pressed(phases: Any, pipeline: Any, current: int, *arguments: Any) -> Any:
        if current == step:
            os.kill(os.getpid(), number)
        return train_step(phases, pipeline, current, *arguments)

    monkeypatch.setattr(loop, "train_step", pressed)


def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train_small(*OPTIONS, run_dir=tmp_path / "undisturbed")[0] == 0
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as pressed:
        press_at(pressed, 1)
        code, output = train_small(*OPTIONS)
    assert code == 130 and "stopped by Ctrl-C with a checkpoint; start the same command again" in output
    assert signal.getsignal(signal.SIGINT) is before
    summary = read_summary(tmp_path / "run")
    assert (summary["status"], summary["step"], summary["exit_code"]) == ("interrupted", 2, 130)
    assert checkpoint_of(tmp_path / "run", 2).is_dir()
    assert train_small(*OPTIONS)[0] == 0
    assert same_bits(*(read_weights(tmp_path / name, 4, "ema") for name in ("run", "undisturbed")))


def test_ctrl_c_before_the_first_step_is_an_interruption_too(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "assemble", interrupted)
    code, output = train_small(*OPTIONS)
    assert code == 130 and "Traceback" not in output
    assert read_summary(tmp_path / "run")["status"] == "interrupted"


def test_ctrl_c_pressed_twice_ends_at_once_without_a_traceback(
    command: Command, mini: Path, root: Path, tmp_path: Path
) -> None:
    script = tmp_path / "pressed.py"
    script.write_text(PRESSED_TWICE.format(root=str(root)))
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=500", *OPTIONS]
    ended = command([sys.executable, script, *words, "--run-dir", tmp_path / "run"], code=130)
    assert "Traceback" not in ended.output and "press Ctrl-C again to stop at once" in ended.output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "running"
    assert RunFolder(tmp_path / "run").summary()["status"] == "interrupted"
    result = results.read_result(tmp_path / "run")
    assert result is not None and result.row["status"] == "interrupted"


@pytest.mark.slow
def test_ctrl_c_stops_two_processes_with_a_checkpoint(torchrun: Command, mini: Path, tmp_path: Path) -> None:
    """torchrun forwards the signal to its workers, as accelerate does, which starts it."""
    run_dir = tmp_path / "run"
    script = tmp_path / "press.py"
    script.write_text(
        "import os, signal, sys, threading, time\n"
        "from pathlib import Path\n"
        "from quell.launch import cli, train\n"
        "def press():\n"
        f"    while not Path({str(run_dir)!r}, 'metrics.jsonl').exists() or '\"train\"' not in "
        f"Path({str(run_dir)!r}, 'metrics.jsonl').read_text():\n"
        "        time.sleep(0.05)\n"
        "    os.kill(os.getppid(), signal.SIGINT)\n"
        "if os.environ['RANK'] == '1':\n"
        "    threading.Thread(target=press, daemon=True).start()\n"
        "cli.leave(train.main(sys.argv[1:]))\n"
    )
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", "loop.max_steps=100000", "loop.epochs=null", *OPTIONS]
    torchrun([script, *words, "--run-dir", run_dir], code=None)
    summary = read_summary(run_dir)
    assert (summary["status"], summary["exit_code"]) == ("interrupted", 130)
    assert checkpoint_of(run_dir, summary["step"]).is_dir()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "failed", "No space left on device"),
        (RuntimeError("a bug"), "failed", "RuntimeError: a bug"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_no_error_leaves_the_status_running(
    train_small: TrainSmall,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
    reason: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(loop, "train", fail)
    try:
        train_small(*OPTIONS)
    except RuntimeError:
        assert isinstance(error, RuntimeError), "a fault of the program keeps its traceback"
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == status and reason in summary["error"]


def test_a_killed_run_is_listed_as_interrupted_and_trained_again(train_small: TrainSmall, tmp_path: Path) -> None:
    assert train_small(*OPTIONS)[0] == 0
    folder = RunFolder(tmp_path / "run")
    folder.write_summary(status="running")
    result = results.read_result(folder.path)
    assert result is not None and result.row["status"] == "interrupted"
    with folder.locked():
        assert folder.summary()["status"] == "running"
