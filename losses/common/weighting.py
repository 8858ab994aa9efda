"""How several losses become one: fixed weights, or weights that learn."""

from typing import Literal

import torch
from torch import Tensor, nn

Strategy = Literal["fixed", "uncertainty", "softmax", "random_softmax"]

ONE_HOT = 0.95
"""Share of one loss above which softmax weights count as one-hot."""


class Weighting(nn.Module):
    """Weighted sum of named losses, with the weights as they were for the log.

    - `fixed`: sum of w L.
    - `uncertainty`: sum of exp(-s) L + s with a learned log-variance s per loss, starting at weights exp(-s) = w. At
      its minimum every exp(-s) L is 1: losses of any scale weigh alike (Kendall, Gal and Cipolla, CVPR 2018, for
      absolute errors). The sum may be negative.
    - `softmax`: weights softmax(t), learned, starting in proportion to w. Minimising the sum over t moves all weight to
      the smallest loss; `one_hot` says when it has.
    - `random_softmax`: softmax of one uniform draw per loss, kept for the whole run. This is what training scripts do
      that declare learned weights and never give them to the optimizer.

    `t` and `s` are parameters of this module; the draw is a buffer: all are in checkpoints. Fixed weights are not, they
    are the configuration's.
    """

    def __init__(self, strategy: Strategy, weights: dict[str, float]) -> None:
        super().__init__()
        self.strategy, self.names = strategy, tuple(weights)
        start = torch.tensor([weights[name] for name in self.names])
        if strategy == "fixed":
            self.register_buffer("weights", start, persistent=False)
        elif strategy == "random_softmax":
            self.register_buffer("draw", torch.rand(len(self.names)))
        elif strategy == "softmax":
            self.logits = nn.Parameter(start.log())
        else:
            self.log_variance = nn.Parameter(-start.log())

    def forward(self, terms: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum, and `weight_<loss>` of each."""
        assert tuple(terms) == self.names, (tuple(terms), self.names)
        weights = self.current()
        total = (weights * torch.stack([terms[name] for name in self.names])).sum()
        if self.strategy == "uncertainty":
            total = total + self.log_variance.sum()
        return total, {f"weight_{name}": weight.detach() for name, weight in zip(self.names, weights, strict=True)}

    def current(self) -> Tensor:
        """The weights now, in the order of the losses."""
        if self.strategy == "fixed":
            return self.get_buffer("weights")
        if self.strategy == "uncertainty":
            return torch.exp(-self.log_variance)
        return torch.softmax(self.logits if self.strategy == "softmax" else self.get_buffer("draw"), 0)

    def one_hot(self, means: dict[str, float]) -> str | None:
        """A sentence when learned softmax weights have left but one loss, from the epoch's mean of each weight."""
        if self.strategy != "softmax" or len(self.names) < 2:
            return None
        name = max(self.names, key=lambda name: means.get(f"weight_{name}", 0.0))
        share = means.get(f"weight_{name}", 0.0)
        if share < ONE_HOT:
            return None
        return (
            f"the softmax weights have gone to {name} ({share:.3f}) and the other losses no longer count; learned "
            "softmax weights always favour the smallest loss: use weighting: uncertainty, or fixed"
        )
