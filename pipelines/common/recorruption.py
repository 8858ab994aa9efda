"""Recorruption: two images with independent noise derived from a noisy one, for noise of a known distribution.

Each function returns `(y1, y2)` with E[y1 | x] = E[y2 | x] = x for the clean image x and noises that are independent
given x. A network that predicts y2 from y1 under the squared error learns E[x | y1], as if the clean image were its
target. Sources: Pang et al., CVPR 2021 (Gaussian); Monroy, Bacca and Tachella, CVPR 2025 (Poisson, Gamma).
"""

import torch
from torch import Tensor

from quell.losses.common.noise_level import MAD_OF_UNIT_NORMAL
from quell.losses.common.order_statistics import lower_medians
from quell.models.blocks.padding import crop_to
from quell.pipelines.common.random_numbers import distributions
from quell.pipelines.common.random_numbers.distributions import Draw


def gaussian(noisy: Tensor, normal: Tensor, *, sigma: Tensor | float, alpha: Tensor | float) -> tuple[Tensor, Tensor]:
    """Recorrupt Gaussian noise: y + alpha sigma z and y - sigma z / alpha for standard-normal z.

    Their noise variances are (1 + alpha^2) sigma^2 and (1 + alpha^-2) sigma^2. For correlated noise z must have its
    correlation (noise_sampling.py), and where the noise varies over the image sigma is an image: cov(y + alpha n',
    y - n' / alpha) = cov(n) - cov(n') is 0 for n' = sigma z with the covariance of the noise n.
    """
    return noisy + alpha * sigma * normal, noisy - sigma * normal / alpha


def poisson(noisy: Tensor, draw: Draw | Tensor, *, gain: Tensor | float, alpha: float) -> tuple[Tensor, Tensor]:
    """Recorrupt y = gain Poisson(x / gain): split the counts at random, a share `alpha` to the second image.

    The images are (y - gain w) / (1 - alpha) and gain w / alpha with w ~ Binomial(y / gain, alpha), 0 < alpha < 1.
    Instead of a draw, standard-normal numbers seed torch's generators, as in draws of version 1.
    """
    counts = (noisy / gain).round().clamp_min(0)
    if isinstance(draw, Draw):
        split = distributions.binomial(draw, counts, alpha)
    else:
        split = torch.stack(
            [
                torch.binomial(image, torch.full_like(image, alpha), generator=generator)
                for image, generator in zip(counts, _generators(draw), strict=True)
            ]
        )
    return gain * (counts - split) / (1 - alpha), gain * split / alpha


def gamma(noisy: Tensor, draw: Draw | Tensor, *, looks: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Recorrupt speckle, y = x Gamma(looks, 1 / looks): split it at random into two independent Gamma images.

    The images are y (1 - w) / (1 - alpha) and y w / alpha with w ~ Beta(looks alpha, looks (1 - alpha)), 0 < alpha < 1.
    Instead of a draw, standard-normal numbers seed torch's generators, as in draws of version 1.
    """
    if isinstance(draw, Draw):
        second, first = (
            distributions.gamma(draw._replace(purpose=f"{draw.purpose}, {part}"), noisy, looks * fraction)
            for part, fraction in (("second", alpha), ("first", 1 - alpha))
        )
    else:
        second, first = _seeded_gammas(noisy, draw, looks * alpha, looks * (1 - alpha))
    share = second / (first + second).clamp_min(torch.finfo(noisy.dtype).tiny)
    return noisy * (1 - share) / (1 - alpha), noisy * share / alpha


def estimated_sigma(noisy_NCHW: Tensor) -> Tensor:
    """Estimate the standard deviation of white Gaussian noise in each image, (N, 1, 1, 1), in the units of the image.

    The median absolute diagonal Haar coefficient (Donoho and Johnstone, 1994). Fine texture counts as noise, so the
    estimate is too high for small or textured crops.
    """
    H, W = (size // 2 * 2 for size in noisy_NCHW.shape[-2:])
    x = crop_to(noisy_NCHW, (H, W))
    diagonal = (x[..., ::2, ::2] - x[..., 1::2, ::2] - x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 2
    return lower_medians(diagonal.abs().flatten(1)).view(-1, 1, 1, 1) / MAD_OF_UNIT_NORMAL


def _seeded_gammas(like_NCHW: Tensor, normal_NCHW: Tensor, *shapes: float) -> list[Tensor]:
    """Gamma numbers of several shapes for each pixel, from generators that normals seed."""
    drawn = [
        [torch._standard_gamma(torch.full_like(image, shape), generator=generator) for shape in shapes]
        for image, generator in zip(like_NCHW, _generators(normal_NCHW), strict=True)
    ]
    return [torch.stack(images) for images in zip(*drawn, strict=True)]


def _generators(normal_NCHW: Tensor) -> list[torch.Generator]:
    """One generator per sample, on its device, seeded by the sample's own random numbers."""
    first = normal_NCHW.flatten(1)[:, :2].cpu().double()
    seeds = (torch.special.ndtr(first) * 2**31).long()
    return [
        torch.Generator(normal_NCHW.device).manual_seed(int(a) * 2**31 + int(b)) for a, b in seeds[:, [0, -1]].tolist()
    ]
