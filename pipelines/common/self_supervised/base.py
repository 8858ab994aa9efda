"""The base of methods that train one network on single noisy images with the squared error."""

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import TypeVar

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Network, PipelineConfig
from quell.losses.l2 import L2
from quell.losses.noise.model import NoiseModel
from quell.losses.noise.verdicts import verdict
from quell.pipelines.base import Batch, Output, Pipeline
from quell.pipelines.common import noise_audit


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

    calibrates = True

    found: NoiseModel | None = None
    """What `calibrate` found about the noise, in this process."""

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
        reference = Source(scale_of="noisy", optional=True, evaluation=True)
        return Needs({"noisy": Source(), "clean": reference, "noisy_second": reference}, dict(cls.normals))

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Examine the noise of whole training images, for `warnings`."""
        self.found = noise_audit.noise_of(batches, ["noisy"], self.fields)

    def noise_model(self) -> NoiseModel | None:
        """The noise found in the training images."""
        return self.found

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The network's output, in the units of the noisy image."""
        return {"restored": self.network(batch["noisy"])}


def correlation_warnings(found: NoiseModel | None, method: str) -> list[str]:
    """Warn before training if a method that needs noise independent between pixels meets another kind."""
    if found is None or "noisy" not in found.fields:
        return []
    judged = verdict(method, found, field="noisy")
    if judged.status != "do not use":
        return []
    return [f"{judged.reason}: the restored images will keep much of the noise; {judged.remedy}"]


def signal_warnings(found: NoiseModel | None, method: str) -> list[str]:
    """Warn before training if a method that needs noise independent of the signal meets photon noise."""
    noise = found.fields.get("noisy") if found is not None else None
    if noise is None or not noise.gain:
        return []
    return [
        f"the variance of the noise of 'noisy' grows with the signal, by {noise.gain:.3g} per unit, and {method} "
        "assumes that it does not: bright parts will keep noise, and dark ones lose structure. Use r2r with noise "
        "poisson; or noise2void or neighbor2neighbor, which need no level"
    ]
