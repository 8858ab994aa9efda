"""ZeRO through accelerate: DeepSpeed shards gradients, optimizer state and (stage 3) weights of one phase.

A checkpoint of a ZeRO run looks like any other: weights and optimizer state are gathered tensor by tensor, so that a
run moves between one process, DDP and ZeRO-1, 2 and 3 on any number of processes.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from quell.configs.errors import ConfigError
from quell.configs.schema import RunConfig
from quell.launch.machine import compilation
from quell.launch.training.phases import Backward, Phase, PhaseView
from quell.pipelines.base import Batch, Pipeline, State

BUCKET = 50_000_000
"""Most elements that are reduced or gathered in one message."""


def refuse_what_cannot_work(config: RunConfig, pipeline: Pipeline) -> None:
    """ConfigError, before anything is wrapped, for what one DeepSpeed engine cannot train."""
    problems = []
    if len(pipeline.phases) > 1:
        problems.append(
            f"pipeline {config.pipeline.name} trains {' and '.join(pipeline.phases)} in turns, each with "
            "its own optimizer, but a DeepSpeed engine holds one model with one optimizer: use DDP "
            "(configs/accelerate/multi_gpu.yaml)"
        )
    if any(p.is_complex() for p in pipeline.parameters()):
        problems.append(
            "DeepSpeed cannot flatten complex64 weights together with others: set data.representation=ri, or use DDP "
            "(configs/accelerate/multi_gpu.yaml)"
        )
    if config.loop.precision == "fp16":
        problems.append("loop.precision fp16 would need DeepSpeed's own loss scaler: use bf16 or no")
    if any(compilation.mode_of(config.loop, phase) for phase in pipeline.phases):
        problems.append(
            "loop.compile is not supported under DeepSpeed, which hooks every layer: set loop.compile=false"
        )
    if problems:
        raise ConfigError(problems)


class ZeroPhase(Phase):
    """The only phase of a pipeline, with a DeepSpeed engine in place of DDP and the optimizer step."""

    def __init__(
        self, accelerator: Accelerator, pipeline: Pipeline, name: str, config: RunConfig, *, precision: str = "no"
    ) -> None:
        self.pipeline, self.plugin = pipeline, accelerator.deepspeed_plugin
        self.stage, self.config = self.plugin.zero_stage, config
        self.shards_parameters = self.stage == 3
        super().__init__(accelerator, pipeline, name, config, precision=precision)

    def wrap(self, accelerator: Accelerator, pipeline: Pipeline) -> Any:
        """The view and the optimizer as one DeepSpeed engine."""
        batch, accumulate = self.config.data.batch_size, self.config.loop.accumulate
        self.plugin.deepspeed_config |= {
            "train_batch_size": batch,
            "gradient_accumulation_steps": accumulate,
            "gradient_clipping": self.clip or 0.0,
            "train_micro_batch_size_per_gpu": batch // (accelerator.num_processes * accumulate),
        }
        # the default buckets of 500 million elements would be zeroed at every step of a small network
        bucket = min(BUCKET, sum(p.numel() for p in pipeline.parameters()))
        self.plugin.deepspeed_config["zero_optimization"] |= {
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        }
        super().train_only_this()
        view = PhaseView(pipeline, self.name, self.autocast)
        view.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # DeepSpeed flattens it
        engine, _ = accelerator.prepare(view, self.optimizer)
        self.sharded = engine.optimizer
        return engine

    def train_only_this(self) -> None:
        """Nothing to do: there are no other phases, and the engine hooks its parameters once."""

    def backward(
        self, batch: Batch, carry: dict[str, Tensor], scaler: torch.amp.GradScaler, *, count: int, last: bool
    ) -> Backward:
        """Accumulate the gradient of one micro-batch; the engine divides by their number."""
        self.view.set_gradient_accumulation_boundary(last)
        loss, scalars, carried = self.view(batch, carry)
        self.view.backward(loss)
        return Backward(loss.detach(), scalars, carried)

    def step(self, scaler: torch.amp.GradScaler) -> tuple[Tensor, Tensor]:
        """Clip and step, or skip; DeepSpeed decides on the host, alike on all ranks."""
        self.view.step()
        norm = torch.as_tensor(self.view.get_global_grad_norm() or 0.0, device=self.view.device)
        return norm.float(), torch.tensor(float(self.sharded.overflow), device=self.view.device)

    @contextmanager
    def gathered_parameters(self, *, write: bool = False) -> Iterator[None]:
        """Inside the block this process holds all weights; with `write` changes to them are kept. Collective."""
        if self.stage == 3:
            import deepspeed

            writer = 0 if write else None
            with deepspeed.zero.GatheredParameters(list(self.pipeline.parameters()), modifier_rank=writer):
                yield
        else:
            yield
        if write:
            self.sharded.refresh_fp32_params()

    def optimizer_state(self) -> State:
        """What torch's optimizer would return without ZeRO. Collective."""
        from deepspeed.utils import safe_get_full_optimizer_state

        inner = self.sharded.optimizer
        group = {k: v for k, v in inner.param_groups[0].items() if k != "params"}
        layout: State = next(iter(inner.state.values()), {})
        state: dict[int, State] = {}
        for i, parameter in enumerate(self.parameters if layout else []):
            state[i] = {
                key: copy.deepcopy(value) if is_number(value) else safe_get_full_optimizer_state(parameter, key).cpu()
                for key, value in layout.items()
            }
        return {"state": state, "param_groups": [{**group, "params": list(range(len(self.parameters)))}]}

    def load_optimizer_state(self, saved: State) -> None:
        """Load this process's part of an optimizer state, whatever launch target saved it."""
        inner = self.sharded.optimizer
        inner.param_groups[0].update({k: v for k, v in saved["param_groups"][0].items() if k != "params"})
        if not saved["state"]:
            return
        layout = saved["state"][0]
        flats = (
            self.sharded.fp32_partitioned_groups_flat
            if self.stage == 3
            else self.sharded.single_partition_of_fp32_groups
        )
        for flat in flats:
            inner.state[flat] = {
                key: copy.deepcopy(value) if is_number(value) else torch.zeros_like(flat)
                for key, value in layout.items()
            }
        if self.stage < 3:
            from deepspeed.utils import lazy_init_hp_params_optimizer_state

            for group, flat in zip(self.sharded.bit16_groups, flats, strict=True):
                lazy_init_hp_params_optimizer_state(group, flat, inner.state)
        for i, parameter in enumerate(self.parameters):
            for key, value in saved["state"][i].items():
                if not is_number(value):
                    self._set(parameter, value.to(self.view.device), key)

    def _set(self, parameter: Tensor, value: Tensor, key: str) -> None:
        """Set this process's part of one tensor of optimizer state."""
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        if self.stage < 3:
            safe_set_full_optimizer_state(parameter, value, key)
            return
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        piece = math.ceil(value.numel() / world)
        padded = F.pad(value.flatten(), (0, piece * world - value.numel()))
        safe_set_local_optimizer_state(parameter, padded[rank * piece : (rank + 1) * piece], key)


def is_number(value: Any) -> bool:
    """Whether a value of an optimizer's state is one number per parameter, like the step count."""
    return not torch.is_tensor(value) or value.dim() == 0
