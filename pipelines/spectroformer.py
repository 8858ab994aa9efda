"""Spectroformer's training: supervised, with four losses of fixed or learned weights."""

from pydantic import field_validator
from torch import Tensor

from quell.configs.schema import Network
from quell.losses.common.weighting import Strategy
from quell.pipelines.base import Batch
from quell.pipelines.common.weighted_losses import Losses
from quell.pipelines.supervised import Supervised


class SpectroformerTraining(Supervised):
    """Supervised restoration with Charbonnier, VGG-19, Laplacian and MS-SSIM losses, for images in [0, 1].

    The original script declares softmax weights for the four losses but never passes them to its optimizer
    (`random_softmax`); if they are trained on the weighted sum, all weight goes to one loss (`softmax`). The default,
    `uncertainty`, is learned and sound. The authors' code is `fixed` with 0.03, 0.025, 0.02 and 0.01, and `vgg16`
    instead of `vgg`. For images of 160 px or less, set `scales` or `window` of msssim.
    Source: Khan et al., WACV 2024.
    """

    class Config(Supervised.Config):
        """Settings of Spectroformer's training."""

        network: Network = {"name": "spectroformer"}
        """Network from the raw image to the enhanced one."""
        losses: Losses = {"charbonnier": {}, "vgg": {}, "laplacian": {}, "msssim": {}}
        """The four losses; `vgg: null` leaves out the perceptual one."""
        weighting: Strategy = "uncertainty"
        """How the losses are combined: uncertainty (learned log-variances), fixed, softmax (learned; ends with all
        weight on one loss), or random_softmax (drawn once and kept)."""
        range: tuple[float, float] | None = None
        """Range of the images in stored units that the network sees mapped to [-1, 1], as in the authors' code; its
        output is mapped back before the losses see it. null shows it the images as they are."""

        @field_validator("range")
        @classmethod
        def _is_ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
            if value is not None and value[0] >= value[1]:
                raise ValueError(f"must be [low, high] with low < high, got {list(value)}")
            return value

    config: Config

    def predicted(self, noisy: Tensor, batch: Batch) -> Tensor:
        """What the network makes of raw images (N, C, H, W), in the units of the batch."""
        if self.config.range is None:
            return super().predicted(noisy, batch)
        low, high = (bound / batch["noisy_scale"] for bound in self.config.range)
        mapped: Tensor = self.network((noisy - low) / (high - low) * 2 - 1)
        return (mapped + 1) / 2 * (high - low) + low
