"""torch.compile for the losses of training (loop.compile): what is compiled, in which mode, and errors in one sentence.

The loss of a phase is compiled, its networks included, and with it the gradient. Evaluation and inference are not: they
meet images of many sizes, and each would be compiled again.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from quell.configs.errors import ConfigError, MachineError
from quell.configs.schema import CompileMode, LoopConfig
from quell.configs.support.suggestions import did_you_mean
from quell.pipelines.base import Batch, PhaseOutput, Pipeline

LossFunction = Callable[[str, Batch, dict[str, Tensor]], PhaseOutput]
"""`Pipeline.loss`."""

CUDA_GRAPHS: Final = "reduce-overhead"
"""The mode that records the kernels of a step and replays them."""

HARMLESS = (
    "The .grad attribute of a Tensor that is not a leaf Tensor",
    "Torchinductor does not support code generation for complex operators",
)
"""Warnings of the compiler itself: it looks for gradients of tensors between two parts of a loss, and leaves complex
operators (FFT, modulus) as they are."""


def mode_of(loop: LoopConfig, phase: str) -> CompileMode:
    """How a phase is compiled; false where it is not."""
    return loop.compile.get(phase, False) if isinstance(loop.compile, dict) else loop.compile


def check(loop: LoopConfig, phases: Sequence[str], device: torch.device) -> list[str]:
    """The phases to compile.

    Raises:
        ConfigError: `loop.compile` names a phase that the method does not have, or CUDA graphs without CUDA.
    """
    named = loop.compile if isinstance(loop.compile, dict) else {}
    problems = [
        f"loop.compile.{name}: the method has no such phase; {did_you_mean(name, list(phases))}"
        for name in named
        if name not in phases
    ]
    chosen = [phase for phase in phases if mode_of(loop, phase)]
    if device.type != "cuda" and any(mode_of(loop, phase) == CUDA_GRAPHS for phase in chosen):
        problems.append(
            f"loop.compile {CUDA_GRAPHS} records and replays CUDA graphs, which {device.type} does not have: set "
            "loop.compile=true, which compiles the same without them"
        )
    if problems:
        raise ConfigError(problems)
    return chosen


def prepare() -> None:
    """Forget what earlier runs of this process have compiled, and tell the compiler whether to be deterministic."""
    torch.compiler.reset()
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    torch.use_deterministic_algorithms(
        torch.are_deterministic_algorithms_enabled(),
        warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
    )


def loss_of(pipeline: Pipeline, mode: CompileMode) -> LossFunction:
    """The loss of a method, compiled when it is first called; as it is where `mode` is false.

    CUDA graphs write the results of every step to the same memory: they are copied, since the log and image pools keep
    them for longer.
    """
    if not mode:
        return pipeline.loss
    fast: LossFunction = torch.compile(pipeline.loss, mode=None if mode is True else mode)

    def loss(phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        pipeline.refresh_host_copies()
        if mode != CUDA_GRAPHS:
            return fast(phase, batch, carry)
        torch.compiler.cudagraph_mark_step_begin()
        output = fast(phase, batch, carry)
        scalars, passed_on = ({k: v.clone() for k, v in values.items()} for values in (output.scalars, output.carry))
        return PhaseOutput(output.loss.clone(), scalars, passed_on)

    return loss


@contextlib.contextmanager
def explained(phase: str) -> Iterator[None]:
    """Turn an error of the compiler inside the block into a MachineError that says how to do without it."""
    try:
        yield
    except RuntimeError as error:
        if not _is_of_compiler(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise MachineError(
            f"torch.compile failed on the loss of phase {phase} ({lines[0] if lines else type(error).__name__}): set "
            "loop.compile=false"
        ) from error


def _is_of_compiler(error: BaseException | None) -> bool:
    while error is not None:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return True
        error = error.__cause__
    return False
