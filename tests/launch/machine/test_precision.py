"""The precision fits the device, and gradients of complex networks are averaged correctly over processes."""

from pathlib import Path

import pytest
import torch

from configs import loader
from configs.errors import ConfigError
from configs.schema import LoopConfig
from launch.machine import precision as autocast_precision
from launch.training import run
from tests.support.commands import Command
from tests.support.runs import checkpoint_of, read_events
from tests.support.small_runs import SmallRun

TRAIN_THEN_CHECK_GRADIENTS = """
import sys
sys.path[0] = {root!r}
import torch
import torch.distributed as dist
from accelerate import Accelerator
from configs.errors import MachineError
from launch import cli, train
from launch.machine import complex_gradients
from tests.support.scripts import Rendezvous
rendezvous = Rendezvous()
rendezvous.open()
code = train.main(sys.argv[1:])
rendezvous.open()
accelerator = Accelerator(cpu=True)
correct = complex_gradients.complex_gradient_difference(accelerator)
all_reduce = dist.all_reduce

from torch.nn.parallel import DistributedDataParallel as DDP
def reduce_only_real_parts(state, bucket):
    gradient = bucket.buffer()
    real = torch.view_as_real(gradient)
    all_reduce(real[..., 0].contiguous())
    future = torch.futures.Future()
    future.set_result(gradient)
    return future
prepare_model = accelerator.prepare_model
def prepare_faulty_model(model):
    wrapped = prepare_model(model)
    wrapped.register_comm_hook(None, reduce_only_real_parts)
    return wrapped
accelerator.prepare_model = prepare_faulty_model
faulty = complex_gradients.complex_gradient_difference(accelerator)
message = ""
try:
    complex_gradients.check_complex(accelerator, torch.nn.Linear(2, 2, dtype=torch.complex64))
except MachineError as error:
    message = str(error)
verdict = f"{{correct < 1e-6}} {{faulty > 1e-2}} {{'set data.representation=ri' in message}}"
open(f"{folder}/rank-{{accelerator.process_index}}.txt", "w").write(verdict)
accelerator.end_training()
rendezvous.close()
cli.leave(code)
"""


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "no")])
def test_auto_precision_on_cpu_is_bf16_only_if_the_processor_supports_it(
    amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert autocast_precision.autocast_type(LoopConfig(precision="auto"), on_cpu=True) == expected
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", dict, raising=False
    )  # processors of another family report nothing
    assert autocast_precision.autocast_type(LoopConfig(precision="auto"), on_cpu=True) == "no"


def test_precision_unsupported_by_the_cpu_is_refused_and_slow_precision_gives_a_warning(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert autocast_precision.autocast_type(LoopConfig(precision="bf16"), on_cpu=True) == "bf16"
    with pytest.raises(ConfigError, match="needs a GPU"):
        autocast_precision.autocast_type(LoopConfig(precision="fp16"), on_cpu=True)
    monkeypatch.setattr(autocast_precision, "multiplies_bf16", lambda: False)
    assert run.train(small_run("loop.precision=bf16", "loop.max_steps=1"), tmp_path / "run") == 0
    assert "slow precision: this processor emulates bfloat16" in capsys.readouterr().err


def test_the_probe_detects_supported_types() -> None:
    cpu = torch.device("cpu")
    assert autocast_precision.computes(cpu, torch.bfloat16)
    assert not autocast_precision.computes(cpu, torch.int32)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_complex_networks_refuse_lower_precision(precision: str, root: Path) -> None:
    arguments = ["data.representation=complex", f"loop.precision={precision}"]
    with pytest.raises(ConfigError, match="loop.precision must be no"):
        loader.load(root / "tests/launch/small.yaml", [*arguments, "data.root=x"])


@pytest.fixture(scope="module")
def two_processes(mini: Path, torchrun: Command, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a complex network trained in two processes, `run`, and their checks of DDP, `rank-N.txt`."""
    folder = tmp_path_factory.mktemp("complex")
    script = folder / "script.py"
    script.write_text(TRAIN_THEN_CHECK_GRADIENTS.format(root=str(root), folder=folder))
    torchrun(
        [
            script,
            "--config",
            "tests/launch/small.yaml",
            f"data.root={mini}",
            "loop.max_steps=2",
            "data.representation=complex",
            "loop.precision=auto",
            "evaluation.every_epochs=null",
            "--run-dir",
            folder / "run",
        ]
    )
    return folder


@pytest.mark.xdist_group("complex")
def test_a_faulty_average_of_complex_gradients_is_detected(two_processes: Path) -> None:
    assert [(two_processes / f"rank-{rank}.txt").read_text() for rank in (0, 1)] == ["True True True"] * 2


@pytest.mark.xdist_group("complex")
def test_a_complex_network_trains_on_two_processes(two_processes: Path) -> None:
    run = two_processes / "run"
    start = read_events(run)[0]
    assert start["precision"] == "no" and start["world"] == 2
    assert checkpoint_of(run, 2).is_dir()
