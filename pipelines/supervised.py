"""Supervised restoration: a network learns to predict clean images from noisy ones. The baseline for other methods."""

from torch import Tensor

from quell.configs.fields import Needs, Source
from quell.configs.schema import Rate
from quell.pipelines.base import Batch, PhaseOutput
from quell.pipelines.common.weighted_losses import WeightedConfig, WeightedPipeline


class Supervised(WeightedPipeline["Supervised.Config"]):
    """Any network and any weighted set of losses, from the noisy to the clean image.

    Both images are divided by the noisy image's scale. With `fresh_sigma` the network never sees the same noise twice,
    as is usual for denoisers in the literature; evaluation always uses the stored noisy images.
    """

    class Config(WeightedConfig):
        """Settings of the supervised method."""

        fresh_sigma: Rate | None = None
        """Train on clean images with fresh Gaussian noise of this standard deviation, in stored units; null trains on
        the stored noisy images."""

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy and clean images, and random numbers for fresh noise."""
        normals = {"fresh": "clean"} if config.fresh_sigma else {}
        return Needs({"noisy": Source(), "clean": Source(scale_of="noisy")}, normals)

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The weighted losses between the restored and the clean image."""
        noisy = batch["noisy"]
        if self.config.fresh_sigma:
            noisy = batch["clean"] + self.config.fresh_sigma / batch["noisy_scale"] * batch["fresh"]
        total, scalars = self.compare(self.predicted(noisy, batch), batch["clean"])
        return PhaseOutput(total, scalars, {})
