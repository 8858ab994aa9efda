"""Training from Python gives what the command line gives, and leaves the process as it was."""

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import quell
from quell.api import runs
from quell.configs import loader
from quell.configs.errors import CheckpointError, ConfigError
from quell.launch.training import loop
from tests.support.runs import read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG


@pytest.fixture
def small(mini: Path, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The small configuration as a mapping; the working directory is a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    data = loader.read(root / SMALL_CONFIG)
    return runs.merged(data, {"name": "small", "data": {"root": str(mini)}, "loop": {"max_steps": 4}})


def state_of_process() -> tuple[object, ...]:
    """What a program may rely on to be as it left it."""
    return (
        random.getstate(),
        str(np.random.get_state()),
        torch.get_rng_state().tolist(),
        dict(os.environ),
        torch.get_num_threads(),
        torch.backends.cudnn.benchmark,
        torch.get_deterministic_debug_mode(),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        sorted(thread.name for thread in threading.enumerate()),
        quell.configs.support.paths.base(),
    )


def test_it_trains_the_same_weights_as_the_command_twice_and_leaves_no_trace(
    small: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    before = state_of_process()
    first = quell.train(small, loop={"deterministic": True, "threads": 1})
    second = quell.train(small, run_dir="again", overrides={"loop.deterministic": True})
    assert state_of_process() == before
    assert (first.folder, second.folder) == (tmp_path / "runs" / "small", tmp_path / "again")
    assert first.status == "finished" and first.summary["step"] == 4
    for run in (first, second):
        assert same_bits(read_weights(run.folder, 4), read_weights(trained, 4))


def test_the_curves_of_a_run_are_arrays(trained: Path) -> None:
    curves = quell.open_run(trained).curves
    assert curves["train"]["step"].tolist() == [2, 4] and curves["train"]["lr_denoiser"].dtype == np.float64
    assert np.isfinite(curves["val"]["pd_cross/psnr"]).all()


def test_a_finished_run_is_left_alone_and_another_configuration_is_refused(small: dict[str, Any]) -> None:
    quell.train(small, run_dir="run")
    assert quell.train(small, run_dir="run").status == "finished"
    with pytest.raises(CheckpointError, match="optimizer.lr"):
        quell.train(small, run_dir="run", optimizer={"lr": 1e-5})


def test_an_interrupt_leaves_a_checkpoint_from_which_the_same_call_continues(
    small: dict[str, Any], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = loop.train_step

    def interrupted(phases: Any, pipeline: Any, step: int, *rest: Any) -> Any:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return train_step(phases, pipeline, step, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", interrupted)
        run = quell.train(small)
    assert run.status == "interrupted" and run.summary["step"] == 2
    assert quell.train(small).status == "finished"
    assert same_bits(read_weights(run.folder, 4), read_weights(trained, 4))


def test_a_second_interrupt_raises_instead_of_ending_the_program(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(loop, "train_step", twice)
    with pytest.raises(KeyboardInterrupt):
        quell.train(small)
    assert signal.getsignal(signal.SIGINT) is handler and quell.open_run("runs/small").status == "interrupted"


def test_it_trains_in_a_thread_where_python_handles_no_signals(small: dict[str, Any]) -> None:
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(quell.train(small, loop={"max_steps": 1}).status))
    thread.start()
    thread.join()
    assert ended == ["finished"]


def test_a_shipped_configuration_is_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r2r").mkdir()  # a folder of this name, perhaps a run, is no configuration
    given = {"data": {"root": "shards"}, "pipeline": {"network": {"name": "dncnn"}}}
    config = runs.configuration("r2r", {"loop.max_steps": np.int64(3)}, given)
    assert config.name == "r2r" and config.loop.max_steps == 3 and config.data.root == "shards"
    assert config.pipeline.network["name"] == "dncnn" and config == runs.configuration(config, {}, {})  # type: ignore[attr-defined]
    assert config.data.batch_size == loader.load("r2r").data.batch_size


def test_all_problems_of_a_configuration_are_reported_together(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)optimizer.lr.*loop.max_step"):
        quell.train(small, loop={"max_step": 3}, optimizer={"lr": -1})
    with pytest.raises(ConfigError, match="overrides"):
        quell.train(small, overrides={"loop": {"max_steps": object()}})
