"""Precision is what the device can do, lower precision trains like float32, and complex gradients are proved right."""

import json
from pathlib import Path

import pytest
import torch

from configs import loader
from configs.errors import ConfigError
from configs.schema import LoopConfig
from launch.machine import precision as autocast_precision
from launch.training import run
from tests.support.commands import Command
from tests.support.small_runs import SmallRun

TRAIN_THEN_PARITY = """
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
right = complex_gradients.complex_gradient_difference(accelerator)
average = dist.all_reduce

from torch.nn.parallel import DistributedDataParallel as DDP
def only_real_parts(state, bucket):
    gradient = bucket.buffer()
    real = torch.view_as_real(gradient)
    average(real[..., 0].contiguous())
    future = torch.futures.Future()
    future.set_result(gradient)
    return future
make = accelerator.prepare_model
def broken(model):
    wrapped = make(model)
    wrapped.register_comm_hook(None, only_real_parts)
    return wrapped
accelerator.prepare_model = broken
wrong = complex_gradients.complex_gradient_difference(accelerator)
refused = ""
try:
    complex_gradients.check_complex(accelerator, torch.nn.Linear(2, 2, dtype=torch.complex64))
except MachineError as error:
    refused = str(error)
verdict = f"{{right < 1e-6}} {{wrong > 1e-2}} {{'set data.representation=ri' in refused}}"
open(f"{folder}/rank-{{accelerator.process_index}}.txt", "w").write(verdict)
accelerator.end_training()
rendezvous.close()
cli.leave(code)
"""


@pytest.mark.parametrize(("amx", "expected"), [(True, "bf16"), (False, "no")])
def test_auto_on_cpu_is_bf16_where_the_processor_multiplies_it(
    amx: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert autocast_precision.autocast_type(LoopConfig(precision="auto"), on_cpu=True) == expected
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # another processor family
    assert autocast_precision.autocast_type(LoopConfig(precision="auto"), on_cpu=True) == "no"


def test_what_a_cpu_cannot_do_is_refused_and_what_it_does_slowly_is_said(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert autocast_precision.autocast_type(LoopConfig(precision="bf16"), on_cpu=True) == "bf16"
    with pytest.raises(ConfigError, match="needs a GPU"):
        autocast_precision.autocast_type(LoopConfig(precision="fp16"), on_cpu=True)
    monkeypatch.setattr(autocast_precision, "multiplies_bf16", lambda: False)
    assert run.train(small_run("loop.precision=bf16", "loop.max_steps=1"), tmp_path / "run") == 0
    assert "slow precision: this processor emulates bfloat16" in capsys.readouterr().err


def test_the_probe_computes_and_compares() -> None:
    cpu = torch.device("cpu")
    assert autocast_precision.computes(cpu, torch.bfloat16)
    assert not autocast_precision.computes(cpu, torch.int32)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_complex_networks_are_refused_lower_precision(precision: str, root: Path) -> None:
    arguments = ["data.representation=complex", f"loop.precision={precision}"]
    with pytest.raises(ConfigError, match="loop.precision must be no"):
        loader.load(root / "tests/launch/small.yaml", [*arguments, "data.root=x"])


@pytest.fixture(scope="module")
def two_processes(mini: Path, torchrun: Command, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes trained a complex network, `run`, and then examined DDP, `rank-N.txt`."""
    folder = tmp_path_factory.mktemp("complex")
    script = folder / "script.py"
    script.write_text(TRAIN_THEN_PARITY.format(root=str(root), folder=folder))
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
def test_the_parity_of_complex_gradients_is_seen_and_its_lack_too(two_processes: Path) -> None:
    assert [(two_processes / f"rank-{rank}.txt").read_text() for rank in (0, 1)] == ["True True True"] * 2


@pytest.mark.xdist_group("complex")
def test_a_complex_network_trains_on_two_processes(two_processes: Path) -> None:
    run = two_processes / "run"
    start = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert start["precision"] == "no" and start["world"] == 2
    assert (run / "checkpoints" / "step-00000002").is_dir()
