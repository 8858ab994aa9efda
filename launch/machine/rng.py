"""The random number generators of this process: seeded, captured and restored."""

import random
from typing import Any

import numpy as np
import torch

from quell.launch.machine import devices
from quell.pipelines.base import State


def seed_everything(seed: int) -> None:
    """Seed the generators that initialise weights; samples and noise have keyed draws of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> State:
    """The state of every generator that this process uses, as plain values; `device` is where it trains."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    state: State = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    module = devices.module_of(device)
    if device.type != "cpu" and hasattr(module, "get_rng_state"):
        state[device.type] = module.get_rng_state()
    return state


def set_random_state(state: State) -> None:
    """Restore what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    device = devices.default_device()
    if device.type in state:
        devices.module_of(device).set_rng_state(state[device.type])
