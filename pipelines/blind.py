"""Blind denoising: one network for a random family of noise levels, spectra and maps."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, model_validator
from torch import Tensor, nn

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Network, PipelineConfig, Rate, Weight
from quell.losses.l2 import L2
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from quell.pipelines.common import recorruption
from quell.pipelines.common.noise_calibration import NoiseLevel
from quell.pipelines.common.noise_settings import NoiseSetting
from quell.pipelines.common.self_supervised import noise_family
from quell.pipelines.common.self_supervised.base import signal_warnings
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.noise_range import NoiseRange


def _is_range(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"expected [lowest, highest], got {list(values)}")
    return values


Range = Annotated[tuple[Rate, Rate], AfterValidator(_is_range)]
"""Lowest and highest value."""


class Blind(Pipeline["Blind.Config"]):
    """One network restores images whatever their noise, as long as a random family of Gaussian noise contains it.

    With clean images (`learn_from: clean`), noise of the family is added to them at every step. Without
    (`learn_from: noisy`), a noisy image y with noise of covariance S = A A^T is recorrupted, for standard-normal z, to

        y + alpha A z + w   and its target   y - A z / alpha

    with a random alpha, and noise w of the family. The noise of the two is independent given the clean image whatever
    w is, so that the squared error has the same minimiser as with clean targets; the network sees noise of covariance
    (1 + alpha^2) S plus that of w. Theory of recorruption: Pang et al., CVPR 2021.
    """

    class Config(PipelineConfig):
        """Settings of blind denoising."""

        network: Network = {"name": "residual_unet"}
        """Network from the noisy image to the restored one. Where it `sees` the level, that is an extra channel, and
        the network needs `residual: false`, because its input and output differ in their channels."""
        learn_from: Literal["noisy", "clean"] = "noisy"
        """What it is trained on: single noisy images, whose noise `noise` describes; or clean images."""
        sees: Literal["nothing", "level"] = "nothing"
        """What it is told about the noise: nothing; or the standard deviation of every pixel."""
        levels: Range = (0.02, 0.3)
        """Standard deviation of the noise of the family in stored units; with learn_from noisy, that which is added to
        the noise of the images."""
        blur_px: Weight = 1.5
        """Widest Gaussian filter of the noise, its standard deviation in pixels."""
        map_ratio: Rate = 4.0
        """Largest ratio between the standard deviations of two pixels, 1 or more."""
        alpha: Range = (0.3, 1.0)
        """Recorruption of noisy images: range of alpha."""
        sigma: Rate | Literal["estimate", "estimate_each"] = "estimate"
        """Noise standard deviation of the noisy images in stored units, as for cross_guided."""
        noise: NoiseSetting = "auto"
        """Covariance of the noise of the noisy images (pipelines/common/noise_settings.py)."""

        @model_validator(mode="after")
        def _has_a_ratio(self) -> "Blind.Config":
            if self.map_ratio < 1:
                raise registry.SettingsError(
                    [f"map_ratio is the larger level over the smaller: it must be 1 or more, got {self.map_ratio:g}"]
                )
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        noisy = fields["noisy"]
        if noisy.is_complex:
            raise ConfigError("blind trains real networks: set data.representation to ri (two channels)")
        self.network: nn.Module = registry.build(
            "models",
            config.network,
            in_channels=noisy.channels + (config.sees == "level"),
            out_channels=noisy.channels,
        )
        self.distance = L2()
        uses_noise = config.learn_from == "noisy" or config.sees == "level"
        self.noise_level = NoiseLevel(self, config.sigma, ["noisy"], config.noise) if uses_noise else None
        self.calibrates = self.noise_level is not None
        self.phases = {"restorer": ("network",)}
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy or clean images, and random numbers for the noise; clean images for evaluation in either case."""
        learns_from_clean = config.learn_from == "clean"
        clean = Source(scale_of="noisy", optional=not learns_from_clean, evaluation=not learns_from_clean)
        second = Source(scale_of="noisy", optional=True, evaluation=True)
        fields = {"noisy": Source(), "clean": clean, "noisy_second": second}
        normals = {"added": "noisy", "family": "noisy"}
        if not learns_from_clean:
            normals["own"] = "noisy"
        return Needs(fields, normals, sizes={"family": noise_family.SIZE})

    def training_needs(self) -> Needs:
        """As `needs`; where the noise has a shape, also the window of each crop, and numbers beyond its borders."""
        needs = type(self).needs(self.config)
        if self.noise_level is None or self.config.learn_from == "clean":
            return needs
        completed = self.noise_level.completed(needs)
        return replace(completed, margins={name: px for name, px in completed.margins.items() if name == "own"})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The squared error to the clean image, or to the second recorrupted one, weighted by its noise."""
        scale = batch["noisy_scale"]
        family = noise_family.Family(self.config.levels, self.config.blur_px, self.config.map_ratio)
        clean = batch["clean"] if self.config.learn_from == "clean" else None
        signal = None if clean is None else clean * scale
        added, sigma = noise_family.draw(family, batch["added"], batch["family"], signal)
        added, sigma = added / scale, sigma / scale
        if clean is not None:
            restored = self._restored(clean + added, sigma)
            loss = self.distance(restored, clean)
            return PhaseOutput(loss, detached({"l2": loss, "sigma": (sigma * scale).mean()}), {})
        assert self.noise_level is not None
        own_sigma = self.noise_level.of_batch(batch)["noisy"]
        alpha = self._alpha(batch["family"])
        own = self.noise_level.coloured("noisy", batch["own"], batch["noisy"], batch.get("window"))
        first, second = recorruption.gaussian(batch["noisy"], own, sigma=own_sigma, alpha=alpha)
        seen_sigma = ((1 + alpha.square()) * own_sigma.square() + sigma.square()).sqrt()
        error = (self._restored(first + added, seen_sigma) - second).square()
        power = (1 + alpha**-2) * own_sigma.square()
        weight = 1 / (1 + alpha**-2)  # targets with much noise count less
        loss = (weight * error).mean() / weight.mean()
        scalars = {"l2": error.mean(), "mse_to_clean": (error - power).mean(), "sigma": (seen_sigma * scale).mean()}
        return PhaseOutput(loss, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The network's output for the noisy image itself."""
        sigma = None
        if self.config.sees == "level":
            assert self.noise_level is not None
            sigma = self.noise_level.of_batch(batch)["noisy"]
        return {"restored": self._restored(batch["noisy"], sigma)}

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Estimate what the settings leave open about the noise, from whole training images."""
        assert self.noise_level is not None
        self.noise_level.calibrate(batches, required=self.config.learn_from == "noisy")

    def noise_model(self) -> NoiseModel | None:
        """The noise found in the training images."""
        return self.noise_level.found if self.noise_level is not None else None

    def noise_ranges(self, found: NoiseModel | None) -> dict[str, NoiseRange]:
        """The levels of the family; with noisy images from their own level to that of the strongest noise added."""
        low, high = self.config.levels
        if self.config.learn_from == "noisy":
            if found is None or "noisy" not in found.fields:
                return {}
            low = found.fields["noisy"].sigma
            high = math.sqrt((1 + self.config.alpha[1] ** 2) * low**2 + high**2)
        any_shape = self.config.blur_px > 0 or self.config.map_ratio > 1
        return {"noisy": NoiseRange(low, high, any_shape)}

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """What the method was told of the noise that it recorrupts, or found; nothing with clean images."""
        if self.noise_level is None or self.config.learn_from == "clean":
            return None
        return self.noise_level.assumed(field)

    def warnings(self) -> list[str]:
        """Whether the noise is what the settings say, and independent of the signal where it is recorrupted."""
        if self.noise_level is None:
            return []
        follows_signal = signal_warnings(self.noise_level.found, "blind") if self.config.learn_from == "noisy" else []
        return follows_signal or self.noise_level.warnings()

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the buffers of the noise where a checkpoint has none."""
        return tensors if self.noise_level is None else self.noise_level.migrate_state(tensors)

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """The noise level of the whole image, where the network sees it, and it is estimated or varies."""
        return self.noise_level.image_statistics(batch) if self.noise_level and self.config.sees == "level" else {}

    def noise_inputs(self) -> NoiseLevel | None:
        """The level, where the network sees it."""
        return self.noise_level if self.config.sees == "level" else None

    def _alpha(self, numbers_NCHW: Tensor) -> Tensor:
        """One alpha per image, uniform on a logarithmic scale, (N, 1, 1, 1)."""
        low, high = self.config.alpha
        uniform = torch.special.ndtr(numbers_NCHW.flatten(1)[:, -noise_family.NUMBERS - 1].float())
        return torch.exp(math.log(low) + uniform * math.log(high / low)).view(-1, 1, 1, 1)

    def _restored(self, image_NCHW: Tensor, sigma: Tensor | None) -> Tensor:
        """The network's output, told the noise level at every pixel where it sees it."""
        if self.config.sees == "nothing":
            return self.network(image_NCHW)
        assert sigma is not None
        level = sigma.mean(1, keepdim=True).expand(-1, -1, *image_NCHW.shape[-2:])
        return image_NCHW + self.network(torch.cat([image_NCHW, level.to(image_NCHW.dtype)], dim=1))
