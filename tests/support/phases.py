"""What every method of several phases must hold: a phase trains its own networks and nothing else."""

import torch
from torch import Tensor

from pipelines.base import Batch, Pipeline


def each_phase_changes_only_its_own(method: Pipeline, batch: Batch) -> None:
    """One step of every phase in order, as the loop takes them: what changed are the parts that the phase names."""
    carry: dict[str, Tensor] = {}
    for phase, parts in method.phases.items():
        method.requires_grad_(False)
        own = method.trained_parameters(phase)
        for parameter in own:
            parameter.requires_grad_(True)
        before = {name: value.clone() for name, value in method.state_dict().items()}
        optimizer = torch.optim.Adam(own, 1e-3)
        step = method.loss(phase, batch, carry)
        step.loss.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own)
        optimizer.step()
        method.after_step(phase)
        carry = step.carry
        changed = {name.split(".")[0] for name, value in method.state_dict().items() if not value.equal(before[name])}
        assert changed == set(parts)
