"""A teacher: a network's own running average, whose restored images the network learns from after a given step.

Restored images with new noise are pairs of a noisy and a clean image for any noise that can be drawn, including that of
magnitudes, which recorruption does not match: a parametric bootstrap (Efron and Tibshirani, 1993, chapter 6).
"""

import copy

import torch
from torch import nn

from quell.configs.errors import ConfigError

DECAY = 0.98
"""Share of the average that a step keeps: it spans some 50 steps, over which the learning rate hardly falls."""


class Teacher(nn.Module):
    """The average weights of a network up to a step; they then stay as they are.

    Args:
        network: The network to follow.
        from_step: Number of steps after which the teacher teaches.
    """

    def __init__(self, network: nn.Module, from_step: int) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.from_step = from_step
        self.teaches = False
        """Whether the network learns from the teacher at this step."""
        self.has_taught = False
        """Whether the network has learned from it."""
        self._decay = 0.0

    def on_step_start(self, step: int) -> None:
        """`Pipeline.on_step_start`."""
        self.teaches, self.has_taught = step >= self.from_step, step > self.from_step
        self._decay = min(DECAY, step / (step + 10))  # the first steps differ too much for a long average

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """`Pipeline.after_step`: follow the network until it is taught.

        Raises ConfigError where each process holds a part of the weights only.
        """
        self.has_taught = self.teaches
        if self.teaches:
            return
        for own, followed in zip(self.network.parameters(), network.parameters(), strict=True):
            if own.shape != followed.shape:
                raise ConfigError("pipeline.relearn_from needs all weights in every process: use ZeRO stage 2 or lower")
            own.lerp_(followed.detach(), 1 - self._decay)
