"""Supervised restoration: a network learns clean images from noisy ones. The baseline of every other method."""

from torch import Tensor

from configs.fields import Needs, Source
from pipelines._weighted import WeightedConfig, WeightedPipeline
from pipelines.base import Batch, Step


class Supervised(WeightedPipeline):
    """Any network, any weighted set of losses, noisy image in and clean image as the target.

    Both are divided by the noisy image's scale. Training data without clean images is refused.
    """

    class Config(WeightedConfig):
        """Settings of the supervised method."""

    config: Config

    @classmethod
    def needs(cls, config: Config) -> Needs:  # type: ignore[override]
        """Noisy images and their clean ones."""
        return Needs({"noisy": Source(), "clean": Source(scale_of="noisy")})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> Step:
        """Weighted losses between the restored and the clean image."""
        total, parts = self.compare(self.network(batch["noisy"]), batch["clean"])
        return Step(total, parts, {})
