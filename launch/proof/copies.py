"""What moves between host and device: pinned batches, snapshots of checkpoints, optimizers that skip a step."""

import time
from functools import partial
from typing import Any

import torch

from quell.launch.checkpoints.snapshot import Snapshots
from quell.launch.machine import devices
from quell.launch.proof.outcomes import Check, SkippedError

COPIES = 1000
STALL_MS = 20.0
"""Longest that a snapshot of 100 MB may keep the training thread."""
OPTIMIZERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


def checks() -> list[Check]:
    """Independent of any configuration."""
    optimizers = [(f"{name}: a skipped first step changes nothing", partial(skipped, name)) for name in OPTIMIZERS]
    return [("1000 pinned copies arrive unchanged", pinned_copies), ("a snapshot of 100 MB", snapshot), *optimizers]


def pinned_copies() -> tuple[bool, str]:
    """Copy batches from page-locked memory without waiting, reusing nothing before it is copied; compare their sums."""
    device = devices.default_device()
    if not devices.pins_memory(device):
        raise SkippedError(f"{device.type} takes no page-locked memory")
    sums = []
    for number in range(COPIES):
        batch = torch.full((1 << 16,), number % 251, dtype=torch.int32, pin_memory=True)
        sums.append(batch.to(device, non_blocking=True).sum())
        del batch
    expected = [(number % 251) << 16 for number in range(COPIES)]
    wrong = sum(a != b for a, b in zip(torch.stack(sums).tolist(), expected, strict=True))
    return wrong == 0, f"{wrong} of {COPIES} wrong"


def snapshot() -> tuple[bool, str]:
    """A snapshot is what the tensors held when it was taken, and the training thread goes on at once."""
    device = devices.default_device()
    tensors = {f"w{i}": torch.full((1 << 20,), float(i), device=device) for i in range(25)}
    snapshots = Snapshots()
    for _ in range(2):  # the first allocates
        began = time.perf_counter()
        take = snapshots.take(tensors)
        stall_ms = 1e3 * (time.perf_counter() - began)
        for value in tensors.values():
            value.add_(1)  # what training does next
        taken = take()
        for value in tensors.values():
            value.sub_(1)
    same = all(bool((taken[f"w{i}"] == i).all()) for i in range(25))
    return same and (device.type == "cpu" or stall_ms < STALL_MS), f"{stall_ms:.1f} ms, {'right' if same else 'WRONG'}"


def skipped(name: str) -> tuple[bool, str]:
    """A fused optimizer whose first step is skipped, as fp16's usually is, leaves weights and moments usable."""
    device = devices.default_device()
    if device.type not in ("cpu", "cuda"):
        raise SkippedError(f"torch has no fused optimizers on {device.type}")
    weight = torch.nn.Parameter(torch.ones(1 << 12, device=device))
    options: dict[str, Any] = {"momentum": 0.9} if name == "sgd" else {}
    optimizer = OPTIMIZERS[name]([weight], lr=0.1, fused=True, **options)
    weight.grad = torch.full_like(weight, torch.inf)
    optimizer.found_inf = torch.ones((), device=device)
    optimizer.grad_scale = None
    optimizer.step()
    moved = float((weight.detach() - 1).abs().max())
    return moved == 0, f"weights moved by {moved:g}"
