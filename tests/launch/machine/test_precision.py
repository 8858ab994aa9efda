"""The precision fits the device, and gradients of complex networks are averaged correctly over processes."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.schema import LoopConfig
from quell.launch.machine import precision
from quell.launch.machine.precision import Precision
from quell.launch.training import run
from quell.launch.training.phases import PhaseView
from quell.pipelines.base import PhaseOutput
from tests.support.commands import Command
from tests.support.runs import checkpoint_of, read_events
from tests.support.small_runs import SmallRun

TRAIN_THEN_CHECK_GRADIENTS = """
import sys
sys.path[0] = {root!r}
import torch
import torch.distributed as dist
from accelerate import Accelerator
from quell.configs.errors import MachineError
from quell.launch import cli, train
from quell.launch.machine import complex_gradients
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


CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
AUTO = LoopConfig(precision="auto")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that the GPU has bf16 in hardware, and computes correctly in these types."""

    def pretend(*, bf16: bool, computes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)) -> None:
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bf16
        )
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100" if not bf16 else "NVIDIA H100")
        monkeypatch.setattr(precision, "computes", lambda _, dtype: dtype in computes)

    return pretend


@pytest.fixture(autouse=True)
def _nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)


@pytest.mark.parametrize("amx", [True, False])
def test_auto_is_float32_on_every_cpu(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx}, raising=False)
    assert precision.choose(AUTO, CPU).name == "no"
    assert precision.multiplies(CPU, "bf16") == amx
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)  # other families of processors
    assert precision.choose(AUTO, CPU).name == "no"


def test_auto_takes_what_the_gpu_multiplies_in_hardware(gpu: Callable[..., None]) -> None:
    gpu(bf16=True)
    assert precision.choose(AUTO, CUDA).name == "bf16"
    gpu(bf16=False)
    assert precision.choose(AUTO, CUDA).name == "fp16"
    assert precision.choose(AUTO, CUDA, scales_loss=False).name == "no"
    gpu(bf16=True, computes=())
    assert precision.choose(AUTO, CUDA).name == "no"
    assert precision.choose(AUTO, CUDA, complex_numbers=True).name == "no"


def test_emulated_bf16_is_refused_with_the_name_of_the_gpu(gpu: Callable[..., None]) -> None:
    gpu(bf16=False)
    with pytest.raises(
        ConfigError, match=r"loop.precision bf16 is emulated by cuda:0 \(Tesla V100\), slowly; use fp16"
    ):
        precision.choose(LoopConfig(precision="bf16"), CUDA)
    gpu(bf16=True, computes=(torch.bfloat16,))
    with pytest.raises(ConfigError, match=r"loop.precision fp16 is not supported by cuda:0 \(NVIDIA H100\)"):
        precision.choose(LoopConfig(precision="fp16"), CUDA)


def test_accelerate_is_asked_where_the_run_leaves_it_open(
    gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(bf16=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert precision.choose(AUTO, CUDA) == ("fp16", "auto: asked of accelerate launch")
    assert precision.choose(LoopConfig(precision="no"), CUDA).name == "no"
    assert precision.choose(AUTO, CUDA, began_with="bf16").name == "bf16"
    with pytest.raises(ConfigError, match="accelerate launch --mixed_precision fp16 needs a GPU"):
        precision.choose(AUTO, CPU)
    with pytest.raises(ConfigError, match="DeepSpeed's own loss scaler"):
        precision.choose(AUTO, CUDA, scales_loss=False)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ConfigError, match="fp8 is not offered"):
        precision.choose(AUTO, CUDA)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # what accelerate says when nobody asked it
    assert precision.choose(AUTO, CUDA).name == "bf16"


def test_a_resumed_run_continues_with_its_precision_where_the_device_computes_it(gpu: Callable[..., None]) -> None:
    gpu(bf16=True)
    assert precision.choose(AUTO, CUDA, began_with="no") == ("no", "auto: as the run began")
    assert precision.choose(AUTO, CUDA, began_with="fp16").name == "fp16"
    gpu(bf16=False)
    changed = precision.choose(AUTO, CUDA, began_with="bf16")
    assert changed.name == "fp16" and "the run began with bf16, which it does not compute" in changed.reason
    assert precision.choose(AUTO, CPU, began_with="fp16").name == "no"


@pytest.mark.parametrize(
    ("names", "common"), [(("bf16", "fp16"), "fp16"), (("bf16", "bf16"), "bf16"), (("fp16", "no"), "no")]
)
def test_ranks_on_different_devices_agree_on_what_all_support(
    names: tuple[str, ...], common: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gather(into: list[object], own: object) -> None:
        into[:] = names if isinstance(own, str) else [None] * len(names)

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    for name in names:
        monkeypatch.setattr(precision, "choose", lambda *_, name=name: Precision(name, "auto"))
        agreed = precision.choose_together(AUTO, CPU, len(names))
        assert agreed.name == common and ("other ranks" in agreed.reason) == (name != common)


def test_what_one_rank_cannot_compute_is_an_error_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the others would wait for it."""
    refusal = ConfigError("loop.precision bf16 is emulated by cuda:1")

    def gather(into: list[object], own: object) -> None:
        into[:] = [own, refusal]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    with pytest.raises(ConfigError, match="emulated by cuda:1"):
        precision.choose_together(LoopConfig(precision="bf16"), CPU, 2)


def test_what_the_cpu_does_not_support_is_refused_and_what_it_emulates_gives_a_warning(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert precision.choose(LoopConfig(precision="bf16"), CPU).name == "bf16"
    with pytest.raises(ConfigError, match="needs a GPU"):
        precision.choose(LoopConfig(precision="fp16"), CPU)
    monkeypatch.setattr(precision, "multiplies_bf16", lambda: False)
    assert run.train(small_run("loop.precision=bf16", "loop.max_steps=1"), tmp_path / "run") == 0
    assert "slow precision: this processor emulates bfloat16" in capsys.readouterr().err


@pytest.mark.parametrize(("precision_of_phase", "dtype"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_a_phase_computes_in_its_precision_and_passes_on_float32(precision_of_phase: str, dtype: torch.dtype) -> None:
    seen: list[torch.dtype] = []

    class OneLayer(nn.Module):
        phases: ClassVar[dict[str, tuple[str, ...]]] = {"only": ("layer",)}

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def loss(self, _: str, batch: dict[str, torch.Tensor], carry: dict[str, torch.Tensor]) -> PhaseOutput:
            output = self.layer(batch["x"])
            seen.append(output.dtype)
            return PhaseOutput(output.mean(), scalars={"mean": output.mean()}, carry={"output": output, **carry})

    view = PhaseView(OneLayer(), "only", precision.autocast(CPU, precision_of_phase))  # type: ignore[arg-type]
    loss, scalars, carry = view({"x": torch.ones(1, 2)}, {"mask": torch.ones(1, dtype=torch.bool)})
    assert seen == [dtype] and carry["mask"].dtype == torch.bool
    assert {loss.dtype, scalars["mean"].dtype, carry["output"].dtype} == {torch.float32}


def test_the_probe_detects_supported_types() -> None:
    cpu = torch.device("cpu")
    assert precision.computes(cpu, torch.bfloat16)
    assert not precision.computes(cpu, torch.int32)


@pytest.mark.parametrize("wanted", ["bf16", "fp16"])
def test_complex_networks_refuse_lower_precision(wanted: str, root: Path) -> None:
    arguments = ["data.representation=complex", f"loop.precision={wanted}"]
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
