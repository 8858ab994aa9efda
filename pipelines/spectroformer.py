"""Spectroformer's training: supervised, with four losses whose weights are fixed or learned."""

from configs.schema import Network
from losses.common.weighting import Strategy
from pipelines.common.weighted_losses import Losses
from pipelines.supervised import Supervised


class Spectroformer(Supervised):
    """Supervised restoration with Charbonnier, VGG-19, Laplacian and MS-SSIM losses, for images in [0, 1].

    The user's script declares softmax weights for the four and never gives them to its optimizer (`random_softmax`);
    learned on the weighted sum they go one-hot (`softmax`). `uncertainty` is the default because it is learned and
    sound; `fixed` with 0.03, 0.025, 0.02, 0.01 and `vgg16` in the place of `vgg` are the authors' code. Images of 160
    px and less need `scales` or `window` of msssim set. Source: Khan et al., WACV 2024.
    """

    class Config(Supervised.Config):
        """Settings of Spectroformer's training."""

        network: Network = {"name": "spectroformer"}
        """Network from the raw image to the enhanced one."""
        losses: Losses = {"charbonnier": {}, "vgg": {}, "laplacian": {}, "msssim": {}}
        """The four losses; `vgg: null` leaves the perceptual one out."""
        weighting: Strategy = "uncertainty"
        """How losses become one: uncertainty (learned log-variances), fixed, softmax (learned; goes one-hot), or
        random_softmax (one random draw, kept)."""

    config: Config
