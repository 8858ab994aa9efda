"""Supervised restoration: a network learns clean images from noisy ones. The baseline of every other method."""

from torch import Tensor

from configs.fields import Needs, Source
from configs.schema import Rate
from pipelines.base import Batch, PhaseOutput
from pipelines.common.weighted_losses import WeightedConfig, WeightedPipeline


class Supervised(WeightedPipeline["Supervised.Config"]):
    """Any network, any weighted set of losses, noisy image in and clean image as the target.

    Both are divided by the noisy image's scale. Training data without clean images is refused. With `fresh_sigma` the
    network never sees the same noise twice, as the denoisers of the literature are trained; evaluation is on the stored
    noisy images in any case.
    """

    class Config(WeightedConfig):
        """Settings of the supervised method."""

        fresh_sigma: Rate | None = None
        """Standard deviation, in stored units, of the Gaussian noise drawn anew for every crop and added to the clean
        image; null trains on the stored noisy images."""

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy images and their clean ones; a noise draw where the noise is made afresh."""
        normals = {"fresh": "clean"} if config.fresh_sigma else {}
        return Needs({"noisy": Source(), "clean": Source(scale_of="noisy")}, normals)

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Weighted losses between the restored and the clean image."""
        noisy = batch["noisy"]
        if self.config.fresh_sigma:
            noisy = batch["clean"] + self.config.fresh_sigma / batch["noisy_scale"] * batch["fresh"]
        total, parts = self.compare(self.network(noisy), batch["clean"])
        return PhaseOutput(total, parts, {})
