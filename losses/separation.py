"""A bounded reward for two noise maps that differ, which keeps a noise generator from returning one fixed map."""

from typing import Literal

import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Real
from quell.losses.common.pixel_differences import comparable_pair


class Separation(nn.Module):
    """With d = mean |a - b|: `linear` is -min(d, bound), `exp` is bound * (exp(-d / bound) - 1).

    Both have slope -1 at d = 0 and never fall below -bound, in the units of the images. Without a bound the maps would
    be driven apart forever. exp with bound 1 is the form in the text of the TCFL reproduction; the one in its first
    code, plain -d, is linear with a bound that is never reached. Beyond the bound `linear` has no gradient, and that of
    `exp` decays.

    Args:
        form: `linear` or `exp`.
        bound: Positive, in the units of the images.

    Shape:
        Inputs of equal shape. Output: scalar in [-bound, 0], lower the more the two differ.

    Raises:
        ConfigError: `bound` is not positive.
    """

    def __init__(self, form: Literal["linear", "exp"] = "exp", bound: Real = 1.0) -> None:
        super().__init__()
        if bound <= 0:
            raise ConfigError(f"separation: bound must be positive, got {bound:g}")
        self.form, self.bound = form, bound

    def forward(self, first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
        """Compare two batches of noise maps; gradients flow into both."""
        first_NCHW, second_NCHW = comparable_pair(first_NCHW, second_NCHW)
        distance = (first_NCHW - second_NCHW).abs().mean()
        if self.form == "linear":
            return -distance.clamp(max=self.bound)
        return self.bound * torch.expm1(-distance / self.bound)
