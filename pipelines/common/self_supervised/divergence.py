"""The divergence of a network, estimated from how its output follows a small random change of its input."""

from collections.abc import Callable

import torch
from torch import Tensor

STEP = 1e-2
"""Length of the change in units of the noise: small against the noise, large against the rounding of float32."""


def divergence(
    network: Callable[[Tensor], Tensor], image_NCHW: Tensor, restored_NCHW: Tensor, probe_NCHW: Tensor
) -> Tensor:
    """Estimate the divergence of a network with respect to noise, per pixel.

    For the Jacobian J of the network and a probe b with zero mean and covariance S, E[b^T J b] = tr(J S): a sample of
    the noise itself is the probe that Stein's estimate needs. Source: Ramani, Blu and Unser, IEEE TIP 2008.

    Args:
        network: From images to images; differentiable almost everywhere.
        image_NCHW: Where to evaluate the divergence.
        restored_NCHW: The network's output for these images.
        probe_NCHW: A draw of noise, independent of that in the images.

    Returns:
        b^T (f(y + STEP b) - f(y)) / STEP at every pixel, (N, C, H, W); its mean over pixels is tr(J S) over their
        number in expectation. Gradients flow to the network.
    """
    with torch.autocast(image_NCHW.device.type, enabled=False):  # a difference of half-precision outputs is rounding
        moved = network(image_NCHW + STEP * probe_NCHW)
        return probe_NCHW * (moved - restored_NCHW) / STEP
