"""Adapting a trained network to a single image while it is restored."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

Objective = Callable[[nn.Module, Tensor], Tensor]
"""The loss of a network on noisy images (N, C, H, W)."""


def adapted(
    network: nn.Module, image_1CHW: Tensor, objective: Objective, *, steps: int, lr: float, crop_px: int, seed: int
) -> nn.Module:
    """A copy of the network that has been trained on one image alone, also where gradients are switched off.

    Args:
        network: Where to start; it does not change.
        image_1CHW: The image.
        objective: The loss to minimise.
        steps: Steps of Adam; the learning rate is halved after half of them.
        lr: Learning rate.
        crop_px: Side of the random window of each step; 0 takes the whole image.
        seed: Of the windows.

    Returns:
        The adapted copy, in evaluation mode.
    """
    random = torch.Generator().manual_seed(seed)
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
            objective(own, _window(image, crop_px, random)).backward()
            optimizer.step()
    return own


def _window(image_1CHW: Tensor, crop_px: int, random: torch.Generator) -> Tensor:
    """A random window of the image; the whole image along a side that is no longer than the window."""
    for axis in (-2, -1):
        size = image_1CHW.shape[axis]
        if crop_px and size > crop_px:
            start = int(torch.randint(size - crop_px + 1, (), generator=random))
            image_1CHW = image_1CHW.narrow(axis, start, crop_px)
    return image_1CHW
