"""What a cross-guided step shows of a stack of contrasts, and what it compares with: targets whose noise is unseen.

Three schemes, for C channels of several contrasts, all with noise that is independent between contrasts:

- stack: every contrast recorrupted at once (Pang et al., CVPR 2021); one view.
- own: one contrast recorrupted, the others shown as they are, and only that one compared; a view per contrast.
- masked: random pixels of one contrast hidden (each replaced by one of its visible neighbours, so that they do not look
  hidden), the others shown as they are, and only the hidden pixels compared with the noisy ones; a view per contrast.
  No noise level is needed (Krull et al., Noise2Void, CVPR 2019).

Views lie one after the other along the batch.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.common import recorruption

Scheme = Literal["stack", "own", "masked"]

HIDDEN = 0.1
"""Share of a contrast's pixels that `masked` hides."""


class Views(NamedTuple):
    """V views of N stacks; every tensor (V N, C, H, W)."""

    seen: Tensor
    target: Tensor
    counts: Tensor | None
    """1 where the restored views are compared with the target, 0 elsewhere; None compares all."""


def training(scheme: Scheme, noisy: Tensor, normal: Tensor, *, sigma: Tensor, alpha: float, widths: list[int]) -> Views:
    """The views a step learns from; `normal` is standard normal, `widths` the channels of each contrast."""
    if scheme == "masked":
        uniform = torch.special.ndtr(normal.float())
        visible = uniform >= HIDDEN
        filled = torch.where(visible, noisy, _visible_neighbour(noisy, visible, uniform / HIDDEN))
        counts = _of_each(noisy, widths) * torch.cat([~visible] * len(widths))
        return Views(_one_each(noisy, filled, widths), torch.cat([noisy] * len(widths)), counts)
    first, second = recorruption.gaussian(noisy, normal, sigma=sigma, alpha=alpha)
    if scheme == "stack":
        return Views(first, second, None)
    return Views(_one_each(noisy, first, widths), torch.cat([second] * len(widths)), _of_each(noisy, widths))


def shown(scheme: Scheme, noisy: Tensor, first: Tensor, widths: list[int]) -> Tensor:
    """What is restored at inference, from the noisy stack and its recorrupted copy: as in training, nothing hidden."""
    if scheme == "own":
        return _one_each(noisy, first, widths)
    return first if scheme == "stack" else noisy


def restored(scheme: Scheme, views: Tensor, widths: list[int]) -> Tensor:
    """The stack (N, C, H, W) from the restored views of `shown`: each contrast from the view that is about it."""
    if scheme != "own":
        return views
    about = [view.split(widths, dim=1)[i] for i, view in enumerate(views.chunk(len(widths)))]
    return torch.cat(about, dim=1)


def _one_each(noisy: Tensor, changed: Tensor, widths: list[int]) -> Tensor:
    """The stack once per contrast, with that contrast taken from `changed`."""
    return torch.where(
        _of_each(noisy, widths).bool(), torch.cat([changed] * len(widths)), torch.cat([noisy] * len(widths))
    )


def _of_each(like: Tensor, widths: list[int]) -> Tensor:
    """1 in the channels of the contrast a view is about, else 0."""
    own = torch.eye(len(widths), device=like.device).repeat_interleave(torch.tensor(widths, device=like.device), dim=1)
    return own.repeat_interleave(len(like), dim=0)[:, :, None, None].expand(-1, -1, *like.shape[-2:]).to(like.dtype)


def _visible_neighbour(image: Tensor, visible: Tensor, uniform: Tensor) -> Tensor:
    """One of each pixel's eight neighbours, drawn by a number in [0, 1); the next visible one where that is hidden.

    A hidden neighbour must not be shown: its noise is a target. Where all are hidden, 0. Borders are reflected.
    """
    H, W = image.shape[-2:]
    padded, unhidden = (functional.pad(x, (1, 1, 1, 1), mode="reflect") for x in (image, visible.to(image.dtype)))
    places = [(y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    values, seen = (torch.stack([x[..., y : y + H, x0 : x0 + W] for y, x0 in places]) for x in (padded, unhidden))
    first = (uniform.clamp(0, 1 - 1e-6) * len(places)).long()
    order = (torch.arange(len(places), device=image.device).view(-1, 1, 1, 1, 1) - first) % len(places)
    best = torch.where(seen > 0, order, len(places)).argmin(0, keepdim=True)
    return torch.where(seen.amax(0) > 0, values.gather(0, best)[0], 0)
