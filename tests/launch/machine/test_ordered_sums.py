"""The average of gradients does not depend on where they lie in DDP's messages."""

from pathlib import Path

from tests.support.commands import Command
from tests.support.slurm.launcher import ROOT

SCRIPT = f"""
import sys
sys.path[0] = {str(ROOT)!r}
import torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from quell.launch.machine.ordered_sums import sum_in_order_of_ranks

class Crossed(nn.Module):
    # the gradients arrive in another order than that of the definition, so DDP arranges its messages anew
    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(37, 1), nn.Linear(11, 37)
        self.scale = nn.Parameter(torch.ones(5, dtype=torch.complex64))
    def forward(self, x):
        return self.last(torch.tanh(self.first(x))).sum() * self.scale.abs().sum() + (self.scale * x[0, :5]).real.sum()

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
model = DistributedDataParallel(Crossed(), gradient_as_bucket_view=True)
sum_in_order_of_ranks(model)
inputs = [torch.randn(9, 11, generator=torch.Generator().manual_seed(r)) * 10.0 ** r for r in range(world)]
first = None
for step in range(3):
    model.zero_grad()
    model(inputs[rank]).backward()
    averaged = [p.grad.clone() for p in model.parameters()]
    first = first or averaged
    assert all(torch.equal(a, b) for a, b in zip(first, averaged)), f"step {{step}} rounds differently"
plain = Crossed()
plain.load_state_dict(model.module.state_dict())
total = [torch.zeros_like(p) for p in plain.parameters()]
for x in inputs:
    for sum_, gradient in zip(total, torch.autograd.grad(plain(x), list(plain.parameters()))):
        sum_ += gradient
for sum_, gradient in zip(total, averaged):
    torch.testing.assert_close(gradient, sum_ / world)
print("done" if rank == 0 else "", flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def test_three_ranks_average_in_their_order_at_every_step(torchrun: Command, tmp_path: Path) -> None:
    script = tmp_path / "sums.py"
    script.write_text(SCRIPT)
    result = torchrun([script], processes=3, timeout_s=300)
    assert "done" in result.output
