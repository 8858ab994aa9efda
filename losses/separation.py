"""A reward, with a floor, for two noise maps that differ: what keeps a noise generator from giving one fixed map."""

from typing import Literal

import torch
from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair


class Separation(nn.Module):
    """From d = mean |a - b|: linear -min(d, bound), or exp bound * (exp(-d / bound) - 1).

    Both start with slope -1 at d = 0 and never fall below -bound, in the unit of the images: a bound is what keeps the
    maps from being driven apart for ever. exp with bound 1 is the form of the TCFL reproduction's text; the form in its
    first code, the plain -d, is the linear one with a bound that is never reached.
    """

    def __init__(self, form: Literal["linear", "exp"] = "exp", bound: float = 1.0) -> None:
        super().__init__()
        if bound <= 0:
            raise ConfigError(f"the bound of a separation is positive, got {bound:g}")
        self.form, self.bound = form, bound

    def forward(self, first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
        """Scalar in [-bound, 0], smaller the more the two differ."""
        first_NCHW, second_NCHW = checked_pair(first_NCHW, second_NCHW)
        distance = (first_NCHW - second_NCHW).abs().mean()
        if self.form == "linear":
            return -distance.clamp(max=self.bound)
        return self.bound * torch.expm1(-distance / self.bound)
