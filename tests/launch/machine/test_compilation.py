"""loop.compile: the compiled loss trains as the plain one, alone, accumulated, averaged, resumed and on two ranks.

Where the C++ compiler need not take part, the losses are traced and differentiated by torch.compile, and its graphs run
as they are (`aot_eager`).
"""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from torch._dynamo.utils import counters

from benchmarks.support import common
from quell.configs.errors import ConfigError, MachineError
from quell.configs.schema import LoopConfig
from quell.launch.machine import compilation
from quell.launch.machine.compilation import CUDA_GRAPHS
from quell.launch.training import run
from quell.pipelines.base import Batch, PhaseOutput, Pipeline
from tests.support.runs import read_events, read_weights, same_bits
from tests.support.small_runs import SMALL_CONFIG, SmallRun
from tests.support.train_each import Job, WorkerPair, train_each

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")
"""Of torch itself, where its compiler is imported."""
LENGTH = ("loop.epochs=null", "loop.max_steps=4", "checkpoint.every_steps=2")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: no g++")


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing compiled before or after, no cache shared with other programs, no processes to compile in."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile without its C++ code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.usefixtures("traced")
def test_a_run_accumulates_averages_evaluates_and_resumes_compiled_losses(small_run: SmallRun, tmp_path: Path) -> None:
    settings = ("loop.accumulate=2", "loop.ema_decay=0.9", "schedule.name=constant", *LENGTH)
    run.train(small_run(*settings), tmp_path / "plain")
    assert not counters["stats"]
    run.train(small_run(*settings, "loop.compile=true"), tmp_path / "compiled")
    assert counters["aot_autograd"]["ok"] == 1  # the whole loss, but no evaluation
    for name in ("weights", "ema"):
        plain, ours = (read_weights(tmp_path / folder, 4, name) for folder in ("plain", "compiled"))
        assert largest_difference(plain, ours) < 1e-5
    run.train(small_run(*settings, "loop.compile=true", "loop.max_steps=2"), tmp_path / "resumed")
    run.train(small_run(*settings, "loop.compile={denoiser: true}"), tmp_path / "resumed")
    assert read_events(tmp_path / "resumed", "resume")
    assert same_bits(read_weights(tmp_path / "resumed", 4), read_weights(tmp_path / "compiled", 4))


@pytest.mark.slow
@needs_compiler
def test_a_run_trains_in_the_code_that_the_compiler_writes(small_run: SmallRun, tmp_path: Path) -> None:
    run.train(small_run(*LENGTH), tmp_path / "plain")
    run.train(small_run(*LENGTH, "loop.compile=true"), tmp_path / "compiled")
    assert list((tmp_path / "code").glob("**/*.so"))
    assert largest_difference(read_weights(tmp_path / "plain", 4), read_weights(tmp_path / "compiled", 4)) < 1e-4


@pytest.mark.usefixtures("traced")
def test_a_compiled_loss_follows_the_weights_of_its_terms(small_run: SmallRun) -> None:
    plain, step = (
        common.TrainingStep.build(small_run("pipeline.weights.content=1", *more), Accelerator(cpu=True))
        for more in ([], ["loop.compile=true"])
    )
    for weight in (1.0, 2.0, 0.0):
        for each in (step, plain):
            each.pipeline.get_buffer("weights")[0] = weight  # as the rule against collapse does between epochs
        torch.testing.assert_close(step(), plain(), rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("traced")
def test_only_the_phases_that_are_named_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    traced = torch.compile

    def recorded(loss: Any, **how: Any) -> Any:
        asked.append(how)
        return traced(loss)

    monkeypatch.setattr(torch, "compile", recorded)
    root = common.write_shards(tmp_path, side=40, count=2)
    small = (*common.SMALL["tcfl"], "data.crop=40", "data.batch_size=2")
    for setting, expected in (
        ("{generator: true, critic: false}", [{"mode": None}]),
        ("{critic: max-autotune}", [{"mode": "max-autotune"}]),
        ("true", [{"mode": None}, {"mode": None}]),
    ):
        asked.clear()
        common.TrainingStep.build(
            common.load_config("tcfl", root, *small, f"loop.compile={setting}"), Accelerator(cpu=True)
        )
        assert asked == expected


def test_unknown_phases_and_graphs_of_cuda_are_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match=r"loop.compile.critik: the method has no such phase; did you mean 'critic'"):
        compilation.check(LoopConfig.model_validate({"compile": {"critik": True}}), ["critic"], torch.device("cpu"))
    graphs = LoopConfig.model_validate({"compile": CUDA_GRAPHS})
    with pytest.raises(ConfigError, match="CUDA graphs, which cpu does not have: set loop.compile=true"):
        compilation.check(graphs, ["critic"], torch.device("cpu"))
    assert compilation.check(graphs, ["critic"], torch.device("cuda")) == ["critic"]
    assert compilation.check(LoopConfig(), ["critic"], torch.device("cpu")) == []


def test_results_of_cuda_graphs_are_copied_before_the_next_step_overwrites_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for replayed graphs, which write every step's results to the same memory."""
    loss, image, steps = torch.zeros(()), torch.zeros(2), []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append("begins"))
    monkeypatch.setattr(torch, "compile", lambda function, mode: function)

    def replayed(phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        loss.add_(1), image.add_(1)
        return PhaseOutput(loss, {"l1": loss}, {"image": image})

    method = SimpleNamespace(loss=replayed, refresh_host_copies=lambda: steps.append("buffers are read"))
    fast = compilation.loss_of(cast(Pipeline, method), CUDA_GRAPHS)
    first, second = fast("x", {}, {}), fast("x", {}, {})
    assert steps == ["buffers are read", "begins"] * 2
    for output, value in ((first, 1), (second, 2)):
        assert output.loss == output.scalars["l1"] == value and output.carry["image"].tolist() == [value] * 2


@needs_compiler
def test_an_error_of_the_compiler_is_one_sentence(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("missing-c++",))
    with pytest.raises(
        MachineError, match=r"torch.compile failed on the loss of phase denoiser .*: set loop.compile=f"
    ):
        run.train(small_run(*LENGTH, "loop.compile=true"), tmp_path / "run")


def test_other_errors_keep_their_name() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), compilation.explained("restorer"):
        raise RuntimeError("out of memory")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", common.SMALL)
def test_compiled_losses_and_gradients_of_every_method(name: str, tmp_path: Path) -> None:
    root = common.write_shards(tmp_path, side=48, count=2, **common.image_kind(name))
    small = (*common.SMALL[name], "data.crop=48", "data.batch_size=2", "loop.accumulate=1", "loop.clip_norm=null")
    logged = []
    for mode in ("false", "true"):
        config = common.load_config(name, root, *small, f"loop.compile={mode}")
        step = common.TrainingStep.build(config, Accelerator(cpu=True))
        logged.append([step(number) for number in range(2)])
    assert counters["aot_autograd"]["ok"] >= len(step.phases)
    # Adam takes steps of the same size for gradients of any size: rounding shows in the second step, as it does between
    # the two orders in memory
    for plain, ours, tolerance in zip(*logged, (1e-3, 1e-2), strict=True):
        for key, value in plain.items():
            torch.testing.assert_close(ours[key], value, rtol=tolerance, atol=1e-6, msg=key)


@pytest.mark.slow
@needs_compiler
@pytest.mark.xdist_group("pair")
def test_two_ranks_train_compiled_losses_as_one_does(
    mini: Path, worker_pair: WorkerPair, small_run: SmallRun, tmp_path: Path
) -> None:
    settings = ("loop.compile=true", "optimizer.name=sgd", "optimizer.lr=0.01", *LENGTH)
    run.train(small_run(*settings), tmp_path / "one")
    words = ["--config", SMALL_CONFIG, f"data.root={mini}", *settings]
    train_each([Job(words, tmp_path / "two")], worker_pair)
    assert largest_difference(read_weights(tmp_path / "one", 4), read_weights(tmp_path / "two", 4)) < 1e-6
