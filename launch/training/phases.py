"""A pipeline's phases, ready to be trained: one wrapped view and one optimizer each."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from configs.schema import RunConfig
from launch.training import optimizers
from pipelines.base import Batch, Pipeline


class View(nn.Module):
    """One phase of a pipeline as a module whose forward is the loss, so that DDP sees one call per backward.

    DDP is told to ignore every tensor the phase does not train: each phase reduces its own gradients and no search for
    unused parameters is needed.
    """

    def __init__(
        self, pipeline: Pipeline, phase: str, precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        super().__init__()
        self.pipeline, self.phase, self.precision = pipeline, phase, precision
        mine = tuple(f"pipeline.{name}" for name in pipeline.phases[phase])
        everything = [name for name, _ in (*self.named_parameters(), *self.named_buffers())]
        self._ddp_params_and_buffers_to_ignore = [
            name for name in everything if not any(name == part or name.startswith(part + ".") for part in mine)
        ]

    def forward(self, batch: Batch, carry: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The phase's loss, its parts, and what it hands on."""
        with self.precision():
            step = self.pipeline.loss(self.phase, batch, carry)
        return step.loss, step.parts, step.carry


class Phase:
    """A phase's view (wrapped for its world and precision), parameters and optimizer."""

    def __init__(self, accelerator: Accelerator, pipeline: Pipeline, name: str, config: RunConfig) -> None:
        self.name = name
        self.parameters = pipeline.trained_parameters(name)
        assert self.parameters, f"phase {name} trains nothing"
        own = {id(parameter) for parameter in self.parameters}
        self.others = [parameter for parameter in pipeline.parameters() if id(parameter) not in own]
        self.optimizer = optimizers.make(config.optimizer, name, self.parameters)
        self.base_lr = self.optimizer.param_groups[0]["lr"]
        self.clip = config.loop.clip_norm
        self.view = self.wrapped(accelerator, pipeline)

    def wrapped(self, accelerator: Accelerator, pipeline: Pipeline) -> Any:
        """The view inside DDP, where there is more than one process, and under the run's precision."""
        return accelerator.prepare_model(View(pipeline, self.name))

    def set_rate(self, factor: float) -> None:
        """Learning rate as a factor of the phase's own top rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_lr * factor

    def only_train_this(self) -> None:
        """Let gradients flow into this phase's parameters alone."""
        for parameter in self.others:
            parameter.requires_grad = False
        for parameter in self.parameters:
            parameter.requires_grad = True

    def backward(
        self, batch: Batch, carry: dict[str, Tensor], scaler: torch.amp.GradScaler, *, count: int, last: bool
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Add the gradient of one of `count` micro-batches, averaged over ranks with the last; (loss, parts, carry)."""
        averages = last or not hasattr(self.view, "no_sync")  # only DDP's wrapper can put the average off
        with nullcontext() if averages else self.view.no_sync():
            loss, parts, handed_on = self.view(batch, carry)
            scaler.scale(loss if count == 1 else loss / count).backward()
        return loss.detach(), parts, handed_on

    def step(self, scaler: torch.amp.GradScaler) -> tuple[Tensor, Tensor]:
        """One optimizer step, or none where the gradient is not finite; (gradient norm, 1 if skipped else 0)."""
        norm, bad = optimizers.apply(self.optimizer, self.parameters, clip=self.clip, scaler=scaler)
        for parameter in self.parameters:  # what the optimizer's zero_grad does, without its hooks for profilers
            parameter.grad = None
        return norm, bad

    def whole(self, *, write: bool = False) -> AbstractContextManager[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept."""
        return nullcontext()

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state for all parameters; every rank calls it."""
        return self.optimizer.state_dict()

    def load_optimizer_state(self, saved: dict[str, Any]) -> None:
        """Take back what `optimizer_state` gave, here or on any other launch target."""
        self.optimizer.load_state_dict(saved)
        for parameter, kept in self.optimizer.state.items():  # fused kernels pair numbers by their place in memory
            for key, value in kept.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def train_step(
    phases: list[Phase], pipeline: Pipeline, step: int, batches: list[Batch], scaler: torch.amp.GradScaler
) -> dict[str, Tensor]:
    """One optimizer step of every active phase on a global batch of micro-batches; the log's numbers, on the device.

    Phases run in order on each micro-batch and hand their images on; each phase steps once, after the last micro-batch.
    """
    log: dict[str, Tensor] = {}
    count = len(batches)
    active = [phase for phase in phases if pipeline.is_active(phase.name, step)]
    for number, batch in enumerate(batches, 1):
        last = number == count
        carry: dict[str, Tensor] = {}
        for phase in active:
            phase.only_train_this()
            loss, parts, handed_on = phase.backward(batch, carry, scaler, count=count, last=last)
            carry |= handed_on
            for name, value in {f"loss_{phase.name}": loss, **parts}.items():
                log[name] = value.float() if count == 1 else log.get(name, 0.0) + value.float() / count
            if last:
                log[f"grad_norm_{phase.name}"], log[f"skipped_{phase.name}"] = phase.step(scaler)
                pipeline.after_step(phase.name)
    scaler.update()
    return log
