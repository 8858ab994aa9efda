"""Gradients of more than two processes on CPUs, summed in the order of the ranks.

gloo reduces in a ring, where the order of summation depends on where an element lies in its message, and DDP arranges
its messages anew after the first step of a process. With three ranks or more, a resumed run would round differently
from one that was never interrupted. Two summands have no order, so two ranks are left to DDP.
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel


def sum_in_order_of_ranks(model: object) -> None:
    """Have DDP average gradients in the order of the ranks, where the order matters and gloo does it."""
    if isinstance(model, DistributedDataParallel) and dist.get_backend() == "gloo" and dist.get_world_size() > 2:
        model.register_comm_hook(None, _average)


def _average(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """The mean over ranks of one of DDP's messages: each rank sums a share of it, and all gather the shares."""
    buffer = bucket.buffer()
    values = torch.view_as_real(buffer).flatten() if buffer.is_complex() else buffer
    world = dist.get_world_size()
    sent = torch.nn.functional.pad(values, (0, -len(values) % world))
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent)
    share, *others = received.chunk(world)
    for other in others:
        share += other
    share /= world
    dist.all_gather(list(sent.chunk(world)), share)
    values.copy_(sent[: len(values)])
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(buffer)
    return future
