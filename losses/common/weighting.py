"""How several losses are added up: with fixed weights, or with weights that are learned."""

from typing import Literal

import torch
from torch import Tensor, nn

Strategy = Literal["fixed", "uncertainty", "softmax", "random_softmax"]

ONE_HOT_SHARE = 0.95
"""Weight of a single loss from which softmax weights count as one-hot."""


class Weighting(nn.Module):
    """Weighted sum of named losses.

    - `fixed`: sum of w L.
    - `uncertainty`: sum of exp(-s) L + s, with a learned log-variance s per loss that starts at weights exp(-s) = w. At
      its minimum every exp(-s) L is 1, so losses of any scale contribute equally (Kendall, Gal and Cipolla, CVPR 2018,
      for absolute errors). The sum may be negative.
    - `softmax`: learned weights softmax(t), which start in proportion to w. Minimising the sum over t moves all weight
      to the smallest loss; `one_hot_warning` reports when it has.
    - `random_softmax`: softmax of one uniform random number per loss, which stays the same for the whole run. This is
      what training scripts do that declare learned weights but never pass them to the optimizer.

    `t` and `s` are parameters of this module and the random numbers are a buffer, so all of them are in checkpoints.
    Fixed weights are not: they come from the configuration.

    Args:
        strategy: One of the above.
        weights: Weight w of each loss by name, positive for the learned strategies.
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
        """Add up the losses.

        Args:
            terms: Scalar of each loss, in the order of the weights.

        Returns:
            The weighted sum, and the detached weights as `weight_<loss>` for the log.
        """
        assert tuple(terms) == self.names, (tuple(terms), self.names)
        weights = self.current()
        total = (weights * torch.stack([terms[name] for name in self.names])).sum()
        if self.strategy == "uncertainty":
            total = total + self.log_variance.sum()
        return total, {f"weight_{name}": weight.detach() for name, weight in zip(self.names, weights, strict=True)}

    def current(self) -> Tensor:
        """The present weights, in the order of the losses."""
        if self.strategy == "fixed":
            return self.get_buffer("weights")
        if self.strategy == "uncertainty":
            return torch.exp(-self.log_variance)
        return torch.softmax(self.logits if self.strategy == "softmax" else self.get_buffer("draw"), 0)

    def one_hot_warning(self, means: dict[str, float]) -> str | None:
        """A warning if learned softmax weights have moved to a single loss.

        Args:
            means: Mean over the epoch of each `weight_<loss>`.
        """
        if self.strategy != "softmax" or len(self.names) < 2:
            return None
        name = max(self.names, key=lambda name: means.get(f"weight_{name}", 0.0))
        share = means.get(f"weight_{name}", 0.0)
        if share < ONE_HOT_SHARE:
            return None
        return (
            f"the softmax weights have gone to {name} ({share:.3f}), so the other losses no longer count: learned "
            "softmax weights always favour the smallest loss; set weighting to uncertainty or fixed"
        )
