"""The random number generators of this process: seeded, captured and restored."""

import random
from typing import Any

import numpy as np
import torch

from pipelines.base import State


def seed_everything(seed: int) -> None:
    """Seed the generators that initialise weights; samples and noise have keyed draws of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> State:
    """The state of every generator of this process, as plain values."""
    numpy_state: Any = np.random.get_state()
    name, keys, *rest = numpy_state
    state: State = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: State) -> None:
    """Restore what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
