"""Running out of memory is one sentence that says what to lower, in training, evaluation and restoring of files."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from quell.configs import errors
from quell.configs.errors import MachineError
from quell.launch import denoise, evaluate
from quell.launch.machine import devices, out_of_memory
from quell.pipelines.dual_domain import DualDomain
from tests.support.runs import read_summary
from tests.support.small_runs import SmallRun, TrainSmall, single_error

CPU = torch.device("cpu")
ON_GPU = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.2 GiB is free."
)
ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "68719476736 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (ON_GPU, "2.5 GiB asked for"),
        (ON_CPU, "64 GiB asked for"),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", ""),
        (
            "MPS backend out of memory (MPS allocated: 8 GB). Tried to allocate 512.00 MiB on private pool.",
            "512 MiB asked",
        ),
        ("XPU out of memory. Tried to allocate 1024.00 MiB. GPU 0 has a total capacity of 15 GiB.", "1 GiB asked for"),
        ("CUDA error: out of memory", ""),
    ],
)
def test_what_torch_and_its_libraries_say_is_recognised(
    message: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "total_bytes", lambda _: 80 * 2**30)
    monkeypatch.setattr(devices, "peak_bytes", lambda _: 79 * 2**30)
    with pytest.raises(MachineError) as caught, out_of_memory.explained(CPU, lambda: "working; lower it"):
        raise RuntimeError(message)
    assert asked in str(caught.value) and "79 GiB used at most of 80 GiB" in str(caught.value)
    assert str(caught.value).endswith("while working; lower it") and caught.value.exit_code == 6


def test_a_real_allocation_that_fails_is_recognised() -> None:
    for allocate in (lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, dtype=np.uint8)):
        with pytest.raises(MachineError, match="asked for"), out_of_memory.explained(CPU, lambda: "working"):
            allocate()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), out_of_memory.explained(CPU, lambda: ""):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")


@pytest.mark.parametrize(
    ("batch", "accumulate", "world", "proposed"),
    [
        (8, 1, 1, "loop.accumulate=2, which takes 4 at a time"),
        (8, 2, 2, "loop.accumulate=4, which takes 1 at a time"),
        (6, 2, 1, "loop.accumulate=3, which takes 2 at a time"),
        (8, 4, 2, "lower data.crop, or choose smaller networks"),
    ],
)
def test_the_next_number_of_micro_batches_that_divides_the_batch_is_proposed(
    batch: int, accumulate: int, world: int, proposed: str, small_run: SmallRun
) -> None:
    config = small_run(f"data.batch_size={batch}", f"loop.accumulate={accumulate}")
    sentence = out_of_memory.training(config, world)
    assert proposed in sentence and f"data.batch_size {batch}, {batch // accumulate // world} sample" in sentence
    assert "training dual_domain" in sentence and "data.crop 16 px" in sentence


def too_large(*_: object) -> None:
    """What torch's allocator does where there is no memory."""
    raise RuntimeError(ON_CPU)


def test_training_that_runs_out_of_memory_says_what_to_lower(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(DualDomain, "loss", too_large)
        code, output = train_small()
    error = single_error(output)
    assert code == 6 and "out of memory on cpu" in error and "loop.accumulate=2" in error and "64 GiB asked" in error
    assert read_summary(tmp_path / "run")["exit_code"] == 6
    assert train_small("loop.accumulate=2")[0] == 0  # the run that was stopped accepts what was proposed


def test_an_evaluation_that_runs_out_of_memory_saves_what_was_learned(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(DualDomain, "restore", too_large)
        code, output = train_small()
    error = single_error(output)
    assert code == 6 and "while restoring 4 full images together with DualDomain; lower data.eval_batch_size" in error
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir()
    assert train_small("data.eval_batch_size=1")[0] == 0


@pytest.fixture
def trained(train_small: TrainSmall, tmp_path: Path) -> Path:
    """A run folder."""
    assert train_small("loop.max_steps=1", "evaluation.every_epochs=null", "tracking.tensorboard=false")[0] == 0
    return tmp_path / "run"


def test_commands_on_a_trained_run_name_their_options(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).normal(size=(2, 24, 24)) + 2
    for name in ("pd", "pdfs"):
        np.save(tmp_path / f"{name}.npy", (images * (1 + 0.1j)).astype(np.complex64))
    monkeypatch.setattr(DualDomain, "restore", too_large)
    assert evaluate.main(["--run", str(trained), "--batch", "2"]) == 6
    assert "restoring 2 full images together" in single_error(capsys.readouterr().err)
    pair = f"pd={tmp_path}/pd.npy,pdfs={tmp_path}/pdfs.npy"
    assert denoise.main(["--run", str(trained), pair, "--output", str(tmp_path / "out"), "--tile", "16"]) == 6
    error = single_error(capsys.readouterr().err)
    assert "restoring 1 tile of 16 x 16 px with dual_domain; lower --batch or --tile" in error


def test_memory_that_no_command_expects_to_lack_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise MemoryError("Unable to allocate 8.00 EiB for an array")

    assert errors.run_command(work) == 6
    assert "out of memory (Unable to allocate 8.00 EiB for an array): free memory" in capsys.readouterr().err
    assert errno.ENOMEM in errors.MACHINE_ERRNOS
