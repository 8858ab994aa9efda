"""A moving average of weights and buffers, kept beside the networks and used in evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pipelines.base import Pipeline


class Average:
    """Exponential moving average of every floating tensor a pipeline has learned; other buffers are copied.

    `decay` per optimizer step; the first steps use (1 + step) / (10 + step) when that is smaller, so that the average
    forgets the initial weights.
    """

    def __init__(self, pipeline: Pipeline, decay: float) -> None:
        self.pipeline, self.decay = pipeline, decay
        learned = pipeline.checkpoint_state()
        self.state = {name: value.detach().clone() for name, value in learned.items()}
        # the parameters and buffers themselves: walking through the modules at every step takes longer than the average
        self.live = {name: value for name, value in pipeline.state_dict(keep_vars=True).items() if name in learned}
        self._paired: dict[str, Tensor] | None = None
        self._moving: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._copied: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after optimizer step `step`."""
        if self._paired is not self.state:  # a resumed run has put another state here
            self._paired = self.state
            averaged = [name for name, value in self.live.items() if value.is_floating_point() or value.is_complex()]
            self._moving = [self.state[name] for name in averaged], [self.live[name] for name in averaged]
            copied = self.live.keys() - set(averaged)
            self._copied = [self.state[name] for name in copied], [self.live[name] for name in copied]
        torch._foreach_lerp_(*self._moving, 1 - min(self.decay, (1 + step) / (10 + step)))
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the pipeline holds the average; its own weights come back afterwards."""
        now = self.pipeline.state_dict(keep_vars=True)
        assert all(now[name] is value for name, value in self.live.items()), "a pipeline keeps its tensors, in place"
        own = {name: value.detach().clone() for name, value in self.pipeline.checkpoint_state().items()}
        self.pipeline.load_checkpoint_state(self.state)
        try:
            yield
        finally:
            self.pipeline.load_checkpoint_state(own)
