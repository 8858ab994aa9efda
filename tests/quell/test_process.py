"""Calls compute as commands do inside any program, and leave to it what is its own."""

import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import quell
from quell.api import process_state
from quell.configs.errors import MachineError


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A noisy grey image."""
    noise = np.random.default_rng(0).normal(size=(48, 64))
    return (np.linspace(0.2, 0.8, 64) + 0.1 * noise).astype(np.float32)


def test_numbers_do_not_depend_on_what_the_program_has_set(image: np.ndarray) -> None:
    expected = quell.load("zoo:photographs_blind", device="cpu").restore(image, force=True)

    def restored() -> np.ndarray:
        return quell.load("zoo:photographs_blind", device="cpu").restore(image, force=True)

    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert np.array_equal(restored(), expected)
        assert torch.is_autocast_enabled("cpu") and torch.is_inference_mode_enabled()
    with torch.device("meta"):
        assert np.array_equal(restored(), expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(restored(), expected)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_training_does_not_depend_on_it_either(trained: Path, mini: Path, tmp_path: Path) -> None:
    report = quell.evaluate(trained, output=tmp_path / "a.json").means
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert quell.evaluate(trained, output=tmp_path / "b.json").means == report
        run = quell.train(quell.open_run(trained).config, run_dir=tmp_path / "run")
    theirs, own = (quell.load(folder).restore for folder in (trained, run))
    images = quell.open_shards(mini, split="test")[0]
    for name, array in own({field: images[field] for field in ("pd", "pdfs")}).items():
        assert np.array_equal(array, theirs({field: images[field] for field in ("pd", "pdfs")})[name])


def test_loading_and_restoring_draw_no_numbers_of_the_program(image: np.ndarray, trained: Path) -> None:
    def state() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), str(np.random.get_state())

    before = state()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("set_rng_state", "manual_seed"):
            patched.setattr(torch, name, None)  # a state that is put back would rewind the numbers of other threads
        quell.load("zoo:photographs_blind").restore(image, force=True)
        quell.open_run(trained).load()
    assert state() == before


def test_overlapping_calls_of_several_threads_leave_the_settings_of_the_program() -> None:
    entered, leave = threading.Event(), threading.Event()

    @process_state.in_user_program
    def first() -> None:
        os.environ["QUELL_TEST_LEFT"] = "1"
        torch.backends.cudnn.allow_tf32 = False
        warnings.simplefilter("ignore")
        entered.set()
        leave.wait()

    @process_state.in_user_program
    def second() -> None:
        leave.set()
        thread.join()  # the first ends inside the second

    allowed, filters = torch.backends.cudnn.allow_tf32, list(warnings.filters)
    torch.backends.cudnn.allow_tf32 = True
    try:
        thread = threading.Thread(target=first)
        thread.start()
        entered.wait()
        second()
        assert torch.backends.cudnn.allow_tf32 and "QUELL_TEST_LEFT" not in os.environ
        assert list(warnings.filters) == filters
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def test_a_program_keeps_its_accelerator(trained: Path, tmp_path: Path) -> None:
    own = Accelerator(cpu=True, mixed_precision="bf16")
    try:
        quell.evaluate(trained, output=tmp_path / "report.json")
        assert own.device.type == "cpu" and own.mixed_precision == "bf16"
        assert own.gather(torch.ones(1)).tolist() == [1.0]
    finally:
        own.state._reset_state(reset_partial_state=True)


def test_a_process_group_of_the_program_is_not_taken(trained: Path, tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/group")
    try:
        with pytest.raises(MachineError, match="process group"):
            quell.evaluate(trained, output=tmp_path / "report.json")
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_two_threads_do_not_train_at_once(trained: Path, tmp_path: Path) -> None:
    with process_state.own_run(), pytest.raises(MachineError, match="another thread"):
        quell.evaluate(trained, output=tmp_path / "report.json")
    assert quell.evaluate(trained, output=tmp_path / "report.json").rows


def test_a_run_is_taken_for_its_folder(trained: Path, tmp_path: Path) -> None:
    run: Any = quell.open_run(trained)
    assert os.fspath(run) == str(trained) and quell.load(run).checkpoint.is_relative_to(trained)
    assert quell.evaluate(run, output=tmp_path / "report.json").rows
