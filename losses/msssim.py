"""One minus the structural similarity over several scales."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common.pixel_differences import checked_pair

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al. 2003, table 1)."""
WINDOW_SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03


class MsSsim(nn.Module):
    """1 - MS-SSIM, mean over samples and channels: 0 for equal images, at most 1.

    Always computed in float32: half precision gives values above 1 and wrong gradients. `data_range` is the span of the
    images' values (1 for images in [0, 1]). A scale halves the image; with a window of 11 and five scales the smaller
    side must exceed 160 px: for smaller images give fewer `scales` (whose weights are rescaled to sum to 1) or a
    smaller odd `window`. Raises ConfigError for images that are too small.

    Where a scale's contrast term is not positive (images that disagree more than unrelated ones do), the product over
    scales, and with it this image channel's value and gradient, is exactly zero: it cannot be learned from. `measure`
    reports the fraction of such dead channels. Source: Wang, Simoncelli and Bovik, Asilomar 2003.
    """

    def __init__(self, data_range: float = 1.0, scales: int = 5, window: int = 11) -> None:
        super().__init__()
        if not 1 <= scales <= len(SCALE_WEIGHTS):
            raise ConfigError(f"msssim has 1 to {len(SCALE_WEIGHTS)} scales, not {scales}")
        if window < 3 or window % 2 == 0:
            raise ConfigError(f"the window of msssim is an odd number of pixels from 3, not {window}")
        if data_range <= 0:
            raise ConfigError(f"the data_range of msssim is {data_range}; it must be positive")
        self.data_range, self.scales, self.window = data_range, scales, window
        chosen = torch.tensor(SCALE_WEIGHTS[:scales])
        exponents = chosen / chosen.sum() if scales < len(SCALE_WEIGHTS) else chosen
        self.register_buffer("exponents", exponents, persistent=False)
        distance = torch.arange(window) - window // 2
        gauss = torch.exp(-distance.square() / (2 * WINDOW_SIGMA_PX**2))
        self.register_buffer("gauss", gauss / gauss.sum(), persistent=False)

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Scalar in [0, 1]."""
        return self.measure(restored_NCHW, target_NCHW)[0]

    def measure(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and `dead`: the fraction of image channels that have no value and no gradient."""
        self._check(restored_NCHW)
        with torch.autocast(restored_NCHW.device.type, enabled=False):
            terms_SNC = self._terms(*checked_pair(restored_NCHW, target_NCHW))
            alive_NC = ~(terms_SNC <= 0).any(0)  # NaN is not dead: it must be seen in the loss
            safe_SNC = torch.where(alive_NC, terms_SNC, torch.ones_like(terms_SNC))
            exponents_S11 = self.get_buffer("exponents").to(terms_SNC)[:, None, None]
            value_NC = torch.where(alive_NC, (safe_SNC**exponents_S11).prod(0), torch.zeros_like(terms_SNC[0]))
            return 1 - value_NC.mean(), {"dead": 1 - alive_NC.to(value_NC).mean()}

    def _terms(self, x: Tensor, y: Tensor) -> Tensor:
        """Contrast-structure of each scale, and luminance times contrast-structure of the last: (scales, N, C)."""
        terms = []
        for scale in range(self.scales):
            if scale:
                odd = [size % 2 for size in x.shape[-2:]]
                x, y = (F.avg_pool2d(image, 2, padding=odd) for image in (x, y))
            luminance, contrast = self._compare(x, y)
            last = scale == self.scales - 1
            terms.append((luminance * contrast if last else contrast).mean((2, 3)))
        return torch.stack(terms)

    def _compare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of the luminance and the contrast-structure term, where the whole window fits."""
        c1, c2 = (K1 * self.data_range) ** 2, (K2 * self.data_range) ** 2
        mean_x, mean_y = self._blur(x), self._blur(y)
        variance_x = self._blur(x * x) - mean_x.square()
        variance_y = self._blur(y * y) - mean_y.square()
        covariance = self._blur(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
        return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)

    def _blur(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.get_buffer("gauss").to(x).repeat(channels, 1, 1, 1)
        x = F.conv2d(x, kernel.view(channels, 1, -1, 1), groups=channels)
        return F.conv2d(x, kernel.view(channels, 1, 1, -1), groups=channels)

    def _check(self, image_NCHW: Tensor) -> None:
        if image_NCHW.is_complex():
            raise ConfigError("msssim is of real images: set data.representation to ri or magnitude")
        height, width = image_NCHW.shape[-2:]
        limit = (self.window - 1) * 2 ** (self.scales - 1)
        if min(height, width) <= limit:
            fits = [s for s in range(1, self.scales) if (self.window - 1) * 2 ** (s - 1) < min(height, width)]
            way_out = f"set scales: {fits[-1]}, or a smaller window" if fits else "set scales: 1 and a smaller window"
            raise ConfigError(
                f"msssim with {self.scales} scales and a window of {self.window} px needs images of more than "
                f"{limit} px, but they are {height}x{width}: {way_out}, or train on larger crops (data.crop)"
            )
