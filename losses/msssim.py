"""One minus the multi-scale structural similarity."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Above, Depth, Side
from quell.losses.common.pixel_differences import comparable_pair

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al. 2003)."""
WINDOW_SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03
"""Stabilising constants of luminance and contrast, relative to the data range."""


class MsSsim(nn.Module):
    """1 - MS-SSIM, averaged over samples and channels: 0 for equal images, at most 1.

    MS-SSIM is the product over scales of the contrast-structure terms, and of the luminance term of the coarsest scale,
    each raised to the weight of its scale. It is never computed in half precision, which gives values above 1 and wrong
    gradients.

    Where the contrast term of a scale is not positive (the images disagree more than unrelated ones would), the product
    over scales is set to zero for this image channel, and so is its gradient: it cannot be learned from. `measure`
    reports the fraction of such dead channels.

    Args:
        data_range: Difference between the largest and the smallest value that images can have, 1 for [0, 1].
        scales: Number of scales, 1 to 5; each halves the image. Weights of fewer than five are rescaled to a sum of 1.
        window: Side of the Gaussian window (sigma 1.5) in pixels, odd, at least 3.

    Shape:
        Inputs (N, C, H, W) of equal shape, real, more than (window - 1) * 2**(scales - 1) px a side (160 by default).
        Output: scalar in [0, 1].

    Raises:
        ConfigError: An argument is out of range or, in `forward`, the images are complex or too small.

    Source:
        Wang, Simoncelli and Bovik, Multi-Scale Structural Similarity for Image Quality Assessment, Asilomar 2003.
    """

    def __init__(self, data_range: Above = 1.0, scales: Depth = 5, window: Side = 11) -> None:
        super().__init__()
        if not 1 <= scales <= len(SCALE_WEIGHTS):
            raise ConfigError(f"msssim: scales must be 1 to {len(SCALE_WEIGHTS)}, got {scales}")
        if window < 3 or window % 2 == 0:
            raise ConfigError(f"msssim: window must be an odd number of pixels, 3 or more, got {window}")
        if data_range <= 0:
            raise ConfigError(f"msssim: data_range must be > 0, got {data_range}")
        self.data_range, self.scales, self.window = data_range, scales, window
        weights = torch.tensor(SCALE_WEIGHTS[:scales])
        exponents = weights / weights.sum() if scales < len(SCALE_WEIGHTS) else weights
        self.register_buffer("exponents", exponents, persistent=False)
        offset_px = torch.arange(window) - window // 2
        gauss = torch.exp(-offset_px.square() / (2 * WINDOW_SIGMA_PX**2))
        self.register_buffer("gauss", gauss / gauss.sum(), persistent=False)

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into both."""
        return self.measure(restored_NCHW, target_NCHW)[0]

    def measure(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and for the log `dead`: the fraction of image channels that have no value and no gradient."""
        self._check(restored_NCHW)
        with torch.autocast(restored_NCHW.device.type, enabled=False):
            terms_SNC = self._terms(*comparable_pair(restored_NCHW, target_NCHW))
            # `~(... <= 0)` and not `> 0`: NaN must count as alive, so that a diverged network shows in the loss.
            alive_NC = ~(terms_SNC <= 0).any(0)
            # A power of a negative number is NaN, and so is its gradient, even where `where` then discards it.
            safe_SNC = torch.where(alive_NC, terms_SNC, torch.ones_like(terms_SNC))
            exponents_S11 = self.get_buffer("exponents").to(terms_SNC)[:, None, None]
            value_NC = torch.where(alive_NC, (safe_SNC**exponents_S11).prod(0), torch.zeros_like(terms_SNC[0]))
            return 1 - value_NC.mean(), {"dead": 1 - alive_NC.to(value_NC).mean()}

    def _terms(self, x: Tensor, y: Tensor) -> Tensor:
        """Contrast-structure term of each scale, for the coarsest one times luminance: (scales, N, C)."""
        terms = []
        for scale in range(self.scales):
            if scale:
                padding = [size % 2 for size in x.shape[-2:]]
                x, y = (F.avg_pool2d(image, 2, padding=padding) for image in (x, y))
            luminance, contrast = self._compare(x, y)
            is_coarsest = scale == self.scales - 1
            terms.append((luminance * contrast if is_coarsest else contrast).mean((2, 3)))
        return torch.stack(terms)

    def _compare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of the luminance and the contrast-structure term, at the positions where the full window fits."""
        c1, c2 = (K1 * self.data_range) ** 2, (K2 * self.data_range) ** 2
        mean_x, mean_y = self._blur(x), self._blur(y)
        variance_x = self._blur(x * x) - mean_x.square()
        variance_y = self._blur(y * y) - mean_y.square()
        covariance = self._blur(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
        return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)

    def _blur(self, x: Tensor) -> Tensor:
        """Gaussian mean within the window, along one axis after the other."""
        channels = x.shape[1]
        kernel = self.get_buffer("gauss").to(x).repeat(channels, 1, 1, 1)
        x = F.conv2d(x, kernel.view(channels, 1, -1, 1), groups=channels)
        return F.conv2d(x, kernel.view(channels, 1, 1, -1), groups=channels)

    def _check(self, image_NCHW: Tensor) -> None:
        """Raise ConfigError for images that are complex or too small."""
        if image_NCHW.is_complex():
            raise ConfigError("msssim compares real images: set data.representation to ri or magnitude")
        height, width = image_NCHW.shape[-2:]
        limit = (self.window - 1) * 2 ** (self.scales - 1)
        if min(height, width) <= limit:
            fitting = [s for s in range(1, self.scales) if (self.window - 1) * 2 ** (s - 1) < min(height, width)]
            remedy = f"set scales: {fitting[-1]} or" if fitting else "set scales: 1 and"
            raise ConfigError(
                f"msssim with {self.scales} scales and a window of {self.window} px needs images of more than "
                f"{limit} px a side, got {height}x{width}: {remedy} a smaller window, or train on larger crops "
                "(data.crop)"
            )
