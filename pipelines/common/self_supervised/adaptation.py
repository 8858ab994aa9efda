"""Adapting a trained network to a single image while it is restored."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from quell.configs.fields import DRAWS
from quell.pipelines.common.random_numbers.split_mix import HostStream

Objective = Callable[[nn.Module, Tensor], Tensor]
"""The loss of a network on noisy images (N, C, H, W)."""

Below = Callable[[int], int]
"""Draws a whole number from 0 on that is less than its argument."""


def adapted(
    network: nn.Module,
    image_1CHW: Tensor,
    objective: Objective,
    *,
    steps: int,
    lr: float,
    crop_px: int,
    below: Below,
) -> nn.Module:
    """A copy of the network that has been trained on one image alone, also where gradients are switched off.

    Args:
        network: Where to start; it does not change.
        image_1CHW: The image.
        objective: The loss to minimise.
        steps: Steps of Adam; the learning rate is halved after half of them.
        lr: Learning rate.
        crop_px: Side of the random window of each step; 0 takes the whole image.
        below: Draws the places of the windows.

    Returns:
        The adapted copy, in evaluation mode.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(image_1CHW.device.type, enabled=False),
    ):
        image = image_1CHW.float().clone()  # a normal tensor, even if the original was made in inference mode
        own = copy.deepcopy(network).eval().requires_grad_(True)
        optimizer = torch.optim.Adam(own.parameters(), lr=lr)
        for step in range(steps):
            if step == (steps + 1) // 2:
                optimizer.param_groups[0]["lr"] = lr / 2
            optimizer.zero_grad(set_to_none=True)
            objective(own, _window(image, crop_px, below)).backward()
            optimizer.step()
    return own


def places(seed: int, version: int = DRAWS) -> Below:
    """Places of windows that are determined by a seed; `version` is that of the random draws."""
    if version > 1:
        return HostStream(seed).below
    random = torch.Generator().manual_seed(seed)
    return lambda bound: int(torch.randint(bound, (), generator=random))


def _window(image_1CHW: Tensor, crop_px: int, below: Below) -> Tensor:
    """A random window of the image; the whole image along a side that is no longer than the window."""
    for axis in (-2, -1):
        size = image_1CHW.shape[axis]
        if crop_px and size > crop_px:
            image_1CHW = image_1CHW.narrow(axis, below(size - crop_px + 1), crop_px)
    return image_1CHW
