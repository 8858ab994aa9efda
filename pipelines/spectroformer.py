"""Spectroformer's training: supervised, with four losses of fixed or learned weights."""

from configs.schema import Network
from losses.common.weighting import Strategy
from pipelines.common.weighted_losses import Losses
from pipelines.supervised import Supervised


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

    config: Config
