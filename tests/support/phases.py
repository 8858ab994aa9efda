"""A check for every method with several phases: a phase trains its own networks and no others."""

import torch
from torch import Tensor

from quell.pipelines.base import Batch, Pipeline


def assert_each_phase_trains_only_its_parts(method: Pipeline, batch: Batch) -> None:
    """Take one step of every phase, as the training loop does, and check which parts of the method have changed."""
    carry: dict[str, Tensor] = {}
    for phase, parts in method.phases.items():
        method.requires_grad_(False)
        own = method.trained_parameters(phase)
        for parameter in own:
            parameter.requires_grad_(True)
        before = {name: value.clone() for name, value in method.state_dict().items()}
        optimizer = torch.optim.Adam(own, 1e-3)
        output = method.loss(phase, batch, carry)
        output.loss.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own)
        optimizer.step()
        method.after_step(phase)
        carry = output.carry
        changed = {name.split(".")[0] for name, value in method.state_dict().items() if not value.equal(before[name])}
        assert changed == set(parts)
