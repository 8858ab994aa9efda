"""A pipeline's phases, ready to train: one wrapped view and one optimizer each."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from quell.configs.schema import CompileMode, RunConfig
from quell.launch.machine import compilation
from quell.launch.machine.precision import DTYPES, autocast
from quell.launch.training import optimizers
from quell.pipelines.base import Batch, Pipeline, State


class PhaseView(nn.Module):
    """One phase of a pipeline as a module whose forward is the loss, so that DDP sees one call per backward pass.

    DDP ignores every tensor that the phase does not train. So each phase reduces its own gradients only, and DDP need
    not search the graph for unused parameters at every step.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        phase: str,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
        compile_mode: CompileMode = False,
    ) -> None:
        super().__init__()
        self.pipeline, self.phase, self.precision = pipeline, phase, precision
        self.loss = compilation.loss_of(pipeline, compile_mode)
        trained = tuple(f"pipeline.{part}" for part in pipeline.phases[phase])
        tensors = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]
        # the attribute that DistributedDataParallel reads; there is no public argument for it
        self._ddp_params_and_buffers_to_ignore = [
            name
            for name in tensors
            if not any(name == part or name.startswith(part + ".") for part in trained)
            or name.endswith(".num_batches_tracked")  # every rank counts alike; a broadcast would look like a change
        ]

    def forward(self, batch: Batch, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The phase's loss, its scalars to log, and the tensors it passes on; see pipelines.base.PhaseOutput."""
        with self.precision():
            output = self.loss(self.phase, batch, carry)
        scalars, carried = ({name: widened(value) for name, value in d.items()} for d in (output.scalars, output.carry))
        return widened(output.loss), scalars, carried


def widened(value: Tensor) -> Tensor:
    """The same in float32, if it is in half precision: what leaves a phase is logged, or read by another phase."""
    return value.float() if value.dtype in DTYPES.values() else value


class Backward(NamedTuple):
    """What a phase's forward and backward pass on one micro-batch leaves."""

    loss: Tensor
    """Detached scalar."""
    scalars: dict[str, Tensor]
    """Detached scalars for the log."""
    carry: dict[str, Tensor]
    """Tensors for the phases that follow on the same micro-batch."""


class Phase:
    """A phase's view (wrapped for its world and precision), its parameters and their optimizer."""

    shards_parameters = False
    """Whether no process holds all weights outside `gathered_parameters`."""

    def __init__(
        self, accelerator: Accelerator, pipeline: Pipeline, name: str, config: RunConfig, *, precision: str = "no"
    ) -> None:
        self.name = name
        self.autocast = autocast(accelerator.device, precision)
        self.parameters = pipeline.trained_parameters(name)
        assert self.parameters, f"phase {name} trains nothing"
        self.part_norms: dict[str, Tensor] = {}
        """Gradient norm of each part in the last step, where they are logged (tracking.gradients)."""
        parts = pipeline.trained_parts(name) if config.tracking.gradients else {}
        self._parts = {part: parameters for part, parameters in parts.items() if parameters and len(parts) > 1}
        own = {id(parameter) for parameter in self.parameters}
        self.frozen_parameters = [parameter for parameter in pipeline.parameters() if id(parameter) not in own]
        self.optimizer = optimizers.make(config.optimizer, name, self.parameters)
        self.base_lr = self.optimizer.param_groups[0]["lr"]
        self.clip = config.loop.clip_norm
        self.compile_mode = compilation.mode_of(config.loop, name)
        self.view = self.wrap(accelerator, pipeline)

    def wrap(self, accelerator: Accelerator, pipeline: Pipeline) -> Any:
        """The view inside DDP, where there is more than one process, and under the run's precision."""
        # the pipeline is on its device already (memory_layout.py); asking accelerate would import distributed tensors
        view = PhaseView(pipeline, self.name, self.autocast, self.compile_mode)
        wrapped = accelerator.prepare_model(view, device_placement=False)
        if accelerator.num_processes > 1:
            from quell.launch.machine.ordered_sums import sum_in_order_of_ranks  # slow to import

            sum_in_order_of_ranks(wrapped)
        return wrapped

    def set_rate(self, factor: float) -> None:
        """Set the learning rate to a factor of the phase's own peak rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_lr * factor

    def train_only_this(self) -> None:
        """Let gradients flow into this phase's parameters only."""
        for parameter in self.frozen_parameters:
            parameter.requires_grad = False
        for parameter in self.parameters:
            parameter.requires_grad = True

    def backward(
        self, batch: Batch, carry: dict[str, Tensor], scaler: torch.amp.GradScaler, *, count: int, last: bool
    ) -> Backward:
        """Accumulate the gradient of one of `count` micro-batches; with the last, ranks average their gradients."""
        reduces = last or not hasattr(self.view, "no_sync")  # only DDP's wrapper can postpone the all-reduce
        compiler_errors = compilation.explained(self.name) if self.compile_mode else nullcontext()
        with nullcontext() if reduces else self.view.no_sync(), compiler_errors:
            loss, scalars, carried = self.view(batch, carry)
            scaler.scale(loss if count == 1 else loss / count).backward()
        return Backward(loss.detach(), scalars, carried)

    def step(self, scaler: torch.amp.GradScaler) -> tuple[Tensor, Tensor]:
        """Take one optimizer step, or none where the gradient is not finite.

        Returns:
            Gradient norm, and 1 if the step was skipped else 0: scalars on the device.
        """
        look = self._measure_parts if self._parts else None
        norm, skipped = optimizers.apply(self.optimizer, self.parameters, clip=self.clip, scaler=scaler, look=look)
        for parameter in self.parameters:  # what the optimizer's zero_grad does, without its profiler hooks
            parameter.grad = None
        return norm, skipped

    def _measure_parts(self) -> None:
        self.part_norms = {part: optimizers.gradient_norm(parameters) for part, parameters in self._parts.items()}

    def gathered_parameters(self, *, write: bool = False) -> AbstractContextManager[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept. Collective."""
        return nullcontext()

    def optimizer_state(self) -> State:
        """The optimizer's state for all parameters. Collective."""
        return self.optimizer.state_dict()

    def load_optimizer_state(self, saved: State) -> None:
        """Restore what `optimizer_state` returned, here or on any other launch target."""
        self.optimizer.load_state_dict(saved)
        for parameter, kept in self.optimizer.state.items():
            for key, value in kept.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # fused kernels pair elements by their position in memory, so moments need the parameter's strides
                    kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def train_step(
    phases: list[Phase], pipeline: Pipeline, step: int, batches: list[Batch], scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """Take one optimizer step of every active phase on a global batch.

    Phases run in order on each micro-batch and pass tensors on; each phase steps once, after the last micro-batch.

    Args:
        phases: All phases of the pipeline.
        pipeline: The method.
        step: Optimizer steps taken so far.
        batches: This process's micro-batches, on its device.
        scaler: Loss scaler, enabled for fp16.

    Returns:
        Scalars for the log, on the device: loss, gradient norm and skip flag of each phase, and its scalars; with
        `tracking.gradients` also the gradient norm of each part of a phase that has several.
    """
    values: dict[str, Tensor] = {}
    count = len(batches)
    active = [phase for phase in phases if pipeline.is_active(phase.name, step)]
    for number, batch in enumerate(batches, 1):
        is_last = number == count
        carry: dict[str, Tensor] = {}
        for phase in active:
            phase.train_only_this()
            loss, scalars, carried = phase.backward(batch, carry, scaler, count=count, last=is_last)
            carry |= carried
            for name, value in {f"loss_{phase.name}": loss, **scalars}.items():
                values[name] = value.float() if count == 1 else values.get(name, 0.0) + value.float() / count
            if is_last:
                values[f"grad_norm_{phase.name}"], values[f"skipped_{phase.name}"] = phase.step(scaler)
                values |= {f"grad_norm_{part}": norm for part, norm in phase.part_norms.items()}
                pipeline.after_step(phase.name)
    scaler.update()
    return values
