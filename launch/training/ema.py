"""A moving average of weights and buffers, kept beside the networks and used for evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from quell.pipelines.base import Pipeline


class Average:
    """Exponential moving average of every floating-point tensor in a pipeline's checkpoint; others are copied.

    Args:
        pipeline: Its tensors must stay the same objects, changed in place.
        decay: Per optimizer step. The first steps use (1 + step) / (10 + step) where that is smaller, so that the
            average forgets the initial weights.
    """

    def __init__(self, pipeline: Pipeline, decay: float) -> None:
        self.pipeline, self.decay = pipeline, decay
        own = pipeline.checkpoint_state()
        self.state = {name: value.detach().clone() for name, value in own.items()}
        # the parameters and buffers themselves: walking through the modules at every step takes longer than the average
        self._live = {name: value for name, value in pipeline.state_dict(keep_vars=True).items() if name in own}
        self._paired_state: dict[str, Tensor] | None = None
        self._moving: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._copied: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights, after optimizer step `step`."""
        if self._paired_state is not self.state:  # at first, and when a resumed run has replaced the state
            self._pair()
        torch._foreach_lerp_(*self._moving, 1 - min(self.decay, (1 + step) / (10 + step)))
        if self._copied[0]:
            torch._foreach_copy_(*self._copied)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the pipeline holds the average; its own weights are restored afterwards."""
        current = self.pipeline.state_dict(keep_vars=True)
        assert all(current[name] is value for name, value in self._live.items()), "pipelines change tensors in place"
        own = {name: value.detach().clone() for name, value in self.pipeline.checkpoint_state().items()}
        self.pipeline.load_checkpoint_state(self.state)
        try:
            yield
        finally:
            self.pipeline.load_checkpoint_state(own)

    def _pair(self) -> None:
        """List averaged and live tensors side by side, as torch's multi-tensor kernels take them."""
        self._paired_state = self.state
        moving = [name for name, value in self._live.items() if value.is_floating_point() or value.is_complex()]
        self._moving = [self.state[name] for name in moving], [self._live[name] for name in moving]
        copied = self._live.keys() - set(moving)
        self._copied = [self.state[name] for name in copied], [self._live[name] for name in copied]
