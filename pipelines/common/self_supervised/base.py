"""The base of methods that train one network on single noisy images with the squared error."""

from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import TypeVar

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import Network, PipelineConfig
from losses.l2 import L2
from pipelines.base import Batch, Output, Pipeline


class SelfSupervisedConfig(PipelineConfig):
    """Settings of a method that trains one network on single noisy images."""

    network: Network = {"name": "residual_unet"}
    """Network from the noisy image to the restored one."""


SelfSupervisedT = TypeVar("SelfSupervisedT", bound=SelfSupervisedConfig, default=SelfSupervisedConfig)


class SelfSupervisedPipeline(Pipeline[SelfSupervisedT]):
    """A method whose only phase trains one network on the field `noisy`; clean images are for evaluation only."""

    Config = SelfSupervisedConfig

    normals: ClassVar[dict[str, str]] = {}
    """Random numbers that `loss` reads, as in `Needs.normals`."""

    def __init__(self, config: SelfSupervisedT, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        noisy = fields["noisy"]
        if noisy.is_complex:
            raise ConfigError(f"{config.name} trains real networks: set data.representation to ri (two channels)")
        self.network: nn.Module = registry.build(
            "models", config.network, in_channels=noisy.channels, out_channels=noisy.channels
        )
        self.distance = L2()
        self.phases = {"restorer": ("network",)}
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: SelfSupervisedT) -> Needs:
        """Noisy images and the method's random numbers; clean images for evaluation only."""
        clean = Source(scale_of="noisy", optional=True, evaluation=True)
        return Needs({"noisy": Source(), "clean": clean}, dict(cls.normals))

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The network's output, in the units of the noisy image."""
        return {"restored": self.network(batch["noisy"])}
