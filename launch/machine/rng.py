"""The random number generators of this process: seeded, captured and restored."""

import random
import re
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from quell.launch.machine import devices
from quell.pipelines.base import State


def seed_everything(seed: int) -> None:
    """Seed the generators that initialise weights; samples and noise have keyed draws of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class OwnDraws(TorchFunctionMode):
    """A block of this thread in which new networks draw their weights from a generator of their own.

    For weights that are replaced by those of a checkpoint at once: the program around keeps its sequence of numbers,
    and so do its other threads, which a state that is put back would not give.
    """

    def __init__(self) -> None:
        """Take a fresh generator."""
        super().__init__()
        self._generator = torch.Generator()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, one that draws with the generator."""
        options = dict(kwargs or {})
        if _DRAWING.fullmatch(getattr(func, "__name__", "")) and options.get("generator") is None:
            options["generator"] = self._generator
        return func(*args, **options)


_DRAWING = re.compile(
    r"rand(n|int|perm)?|(log_)?normal_?|(trunc_normal|uniform|(xavier|kaiming)_(normal|uniform))_|bernoulli_?|multinomial"
    r"|(exponential|cauchy|geometric|random|orthogonal|sparse)_"
)
"""Names of the functions of torch, its tensors and torch.nn.init that draw, and take a generator."""


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
