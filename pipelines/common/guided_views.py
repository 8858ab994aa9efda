"""The views of a stack of contrasts that cross-guided restoration trains on, with targets whose noise is not visible.

Three schemes, for C channels of several contrasts with noise that is independent between contrasts:

- stack: all contrasts recorrupted at once (Pang et al., CVPR 2021); one view.
- own: one contrast recorrupted, the others shown unchanged, and the loss on that contrast only; one view per contrast.
- masked: random pixels of one contrast hidden, the others shown unchanged, and the loss against the noisy image on the
  hidden pixels only; one view per contrast. A hidden pixel shows one of its visible neighbours, so that the network
  cannot tell. Needs no noise level (Krull et al., Noise2Void, CVPR 2019).

Views are concatenated along the batch.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quell.pipelines.common import recorruption

Scheme = Literal["stack", "own", "masked"]

HIDDEN = 0.1
"""Share of a contrast's pixels that `masked` hides."""


class Views(NamedTuple):
    """V views of N stacks, each tensor (V N, C, H, W)."""

    seen: Tensor
    target: Tensor
    mask: Tensor | None
    """1 where the restored views are compared with the target, 0 elsewhere; None to compare everywhere."""


def training(scheme: Scheme, noisy: Tensor, normal: Tensor, *, sigma: Tensor, alpha: float, widths: list[int]) -> Views:
    """The views of a training step.

    Args:
        scheme: What the views hide, see the module's docstring.
        noisy: The stacked noisy contrasts (N, C, H, W).
        normal: Standard-normal numbers of the same shape, from the batch.
        sigma: Noise level of each channel in the units of `noisy`, (N, C, 1, 1); not used by `masked`.
        alpha: Standard deviation of the noise added to the input, as a multiple of sigma.
        widths: Channels of each contrast.
    """
    if scheme == "masked":
        uniform = torch.special.ndtr(normal.float())
        visible = uniform >= HIDDEN
        filled = torch.where(visible, noisy, _visible_neighbour(noisy, visible, uniform / HIDDEN))
        mask = _own_channels(noisy, widths) * torch.cat([~visible] * len(widths))
        return Views(_views(noisy, filled, widths), torch.cat([noisy] * len(widths)), mask)
    first, second = recorruption.gaussian(noisy, normal, sigma=sigma, alpha=alpha)
    if scheme == "stack":
        return Views(first, second, None)
    return Views(_views(noisy, first, widths), torch.cat([second] * len(widths)), _own_channels(noisy, widths))


def inference(scheme: Scheme, noisy: Tensor, first: Tensor, widths: list[int]) -> Tensor:
    """The views to restore, from the noisy stack and its recorrupted copy: as in training, but with no pixel hidden."""
    if scheme == "own":
        return _views(noisy, first, widths)
    return first if scheme == "stack" else noisy


def merged(scheme: Scheme, views: Tensor, widths: list[int]) -> Tensor:
    """The restored stack (N, C, H, W) from the restored views of `inference`: each contrast from its own view."""
    if scheme != "own":
        return views
    own = [view.split(widths, dim=1)[i] for i, view in enumerate(views.unflatten(0, (len(widths), -1)))]
    return torch.cat(own, dim=1)


def _views(noisy: Tensor, changed: Tensor, widths: list[int]) -> Tensor:
    """The stack once per contrast, with that contrast taken from `changed`."""
    return torch.where(
        _own_channels(noisy, widths).bool(), torch.cat([changed] * len(widths)), torch.cat([noisy] * len(widths))
    )


def _own_channels(like: Tensor, widths: list[int]) -> Tensor:
    """A mask over one view per contrast: 1 in that contrast's channels, 0 in the others."""
    # not repeat_interleave by a tensor of widths: the host would wait for the device to know the size of the result
    contrasts = torch.eye(len(widths), device=like.device).unbind(1)
    own = torch.cat([own[:, None].expand(-1, width) for own, width in zip(contrasts, widths, strict=True)], dim=1)
    return own.repeat_interleave(like.shape[0], dim=0)[:, :, None, None].expand(-1, -1, *like.shape[-2:]).to(like.dtype)


def _visible_neighbour(image: Tensor, visible: Tensor, uniform: Tensor) -> Tensor:
    """One of each pixel's eight neighbours, chosen by a number in [0, 1); if that one is hidden, the next visible one.

    A hidden neighbour must not be shown, since its noise is part of a target; 0 where all eight are hidden. Borders are
    reflected.
    """
    H, W = image.shape[-2:]
    padded, unhidden = (functional.pad(x, (1, 1, 1, 1), mode="reflect") for x in (image, visible.to(image.dtype)))
    offsets = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    values, is_visible = (
        torch.stack([x[..., y : y + H, x0 : x0 + W] for y, x0 in offsets]) for x in (padded, unhidden)
    )
    first = (uniform.clamp(0, 1 - 1e-6) * len(offsets)).long()
    order = (torch.arange(len(offsets), device=image.device).view(-1, 1, 1, 1, 1) - first) % len(offsets)
    best = torch.where(is_visible > 0, order, len(offsets)).argmin(0, keepdim=True)
    return torch.where(is_visible.amax(0) > 0, values.gather(0, best)[0], 0)
