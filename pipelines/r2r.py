"""Recorrupted-to-Recorrupted: a network learns from single noisy images whose noise distribution is known."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import BeforeValidator, TypeAdapter, field_validator, model_validator
from torch import Tensor

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import Count, Network, PipelineConfig, Rate
from quell.losses.l2 import L2
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from quell.pipelines.common import recorruption
from quell.pipelines.common.noise_calibration import NoiseLevel
from quell.pipelines.common.noise_settings import NoiseSetting
from quell.pipelines.common.random_numbers.distributions import Draw
from quell.pipelines.common.random_numbers.image_draws import ImageDraws
from quell.pipelines.common.self_ensemble import restored_turned, self_ensembled
from quell.pipelines.reporting.assumed_noise import AssumedNoise

PARAMETER = {"gaussian": "sigma", "poisson": "gain", "gamma": "looks"}
"""Noise distribution -> the setting that holds its parameter."""

Distribution = Literal["gaussian", "poisson", "gamma"]


def _setting(value: Any) -> Any:
    """A distribution, or what `NoiseSetting` checks and names in its error."""
    return value if value in get_args(Distribution) else TypeAdapter(NoiseSetting).validate_python(value)


class R2R(Pipeline["R2R.Config"]):
    """Each step derives two images with independent noise from a noisy one and predicts the second from the first.

    Needs neither clean images nor second noisy ones, but the distribution of the noise. Sources: Pang et al., CVPR 2021
    (Gaussian); Monroy, Bacca and Tachella, CVPR 2025 (Poisson, Gamma).
    """

    class Config(PipelineConfig):
        """Settings of R2R."""

        network: Network = {"name": "dncnn"}
        """Network from the noisy image to the restored one."""
        noise: Annotated[Distribution | NoiseSetting, BeforeValidator(_setting)] = "gaussian"
        """What the noise is like. Additive Gaussian: gaussian or auto, whose spectrum and map an audit of the training
        images finds; white, spectrum, map, spectrum_map, from_repeats or {given: FILE.npz}
        (pipelines/common/noise_settings.py). Otherwise: poisson, counts times a gain; gamma, speckle."""
        sigma: Rate | Literal["estimate"] | None = None
        """Gaussian: standard deviation in stored units; or `estimate`, measured once on whole training images and saved
        with the weights."""
        gain: Rate | None = None
        """Poisson: stored units per count."""
        looks: Rate | None = None
        """Gamma: shape parameter of the speckle, mean^2 / variance."""
        alpha: Rate = 0.5
        """Gaussian: standard deviation of the noise added to the first image, as a multiple of sigma; from the second
        image 1 / alpha times sigma is subtracted. Poisson and Gamma: share of the second image, below 1."""
        loss: str = "l2"
        """Always l2: only the squared error has the clean image as its minimiser."""
        passes: Count = 50
        """Recorrupted copies restored and averaged at inference; 0 restores the noisy image itself, once."""
        self_ensemble: bool = False
        """Restore each of these copies in another of the eight orientations (those in which the noise looks the same):
        slightly better, in the same time."""

        @field_validator("loss")
        @classmethod
        def _is_l2(cls, loss: str) -> str:
            if loss != "l2":
                raise ValueError(
                    f"'{loss}' would not learn the clean image: R2R's target carries extra noise that only the squared "
                    "error averages away; the loss must be l2"
                )
            return loss

        @model_validator(mode="after")
        def _matches_the_distribution(self) -> "R2R.Config":
            problems = []
            distribution = self.distribution
            if getattr(self, PARAMETER[distribution]) is None:
                problems.append(f"noise {self.noise} needs {PARAMETER[distribution]}")
            unused = [
                name for other, name in PARAMETER.items() if other != distribution and getattr(self, name) is not None
            ]
            if unused:
                problems.append(f"{' and '.join(unused)} is not read with noise {self.noise}")
            if distribution != "gaussian" and self.alpha >= 1:
                problems.append(f"alpha is a share with noise {self.noise}: it must be below 1, got {self.alpha:g}")
            if problems:
                raise registry.SettingsError(problems)
            return self

        @property
        def distribution(self) -> Distribution:
            """Of the noise: gaussian for every setting that describes the covariance."""
            return self.noise if self.noise == "poisson" or self.noise == "gamma" else "gaussian"

        @property
        def covariance(self) -> NoiseSetting:
            """Of Gaussian noise; counts and speckle are split pixel by pixel, as white noise."""
            if self.noise == "poisson" or self.noise == "gamma":
                return "white"
            return "auto" if self.noise == "gaussian" else self.noise

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        noisy = fields["noisy"]
        if noisy.is_complex:
            raise ConfigError("r2r trains real networks: set data.representation to ri (two channels)")
        if config.distribution != "gaussian" and noisy.layout == "ri":
            raise ConfigError(f"{config.noise} noise is a model of magnitudes: set data.representation to magnitude")
        self.network = registry.build("models", config.network, in_channels=noisy.channels, out_channels=noisy.channels)
        self.distance = L2()
        self.calibrates = True
        self.noise_level = NoiseLevel(self, config.sigma or "estimate_each", ["noisy"], config.covariance)
        self.phases = {"restorer": ("network",)}
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy images and random numbers to recorrupt them; clean images for evaluation only."""
        reference = Source(scale_of="noisy", optional=True, evaluation=True)
        fields = {"noisy": Source(), "clean": reference, "noisy_second": reference}
        return Needs(fields, {"recorruption": "noisy"})

    def training_needs(self) -> Needs:
        """As `needs`; where the noise has a shape, also the window of each crop, and numbers beyond its borders.

        Noise that is not Gaussian is split by numbers of other distributions, drawn from seeds.
        """
        needs = type(self).needs(self.config)
        if self.config.distribution != "gaussian" and self.draws > 1:
            return replace(needs, normals={}, seeds=True)
        return self.noise_level.completed(needs)

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Mean squared error between the restored first image and the second one.

        For Gaussian noise the scalar `mse_to_clean` is the loss minus the known noise power of the second image: the
        expected squared error to the clean image, from noisy images alone. By chance it can be negative.
        """
        draw = batch["recorruption"] if "recorruption" in batch else Draw(batch["seeds"], "recorruption")
        first, second = self._recorrupted(batch, draw)
        loss = self.distance(self.network(first), second)
        scalars = {"l2": loss}
        if self.config.distribution == "gaussian":
            sigma = self._sigma(batch)
            floor = (1 + self.config.alpha**-2) * sigma.square().mean()
            scalars |= {"mse_to_clean": loss - floor, "sigma": (sigma * batch["noisy_scale"]).mean()}
        return PhaseOutput(loss, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over `passes` restored copies, whose recorruption depends on the sample's index alone."""
        turns = self.noise_level.orientations if self.config.self_ensemble else [0]
        if self.config.passes == 0:
            return {"restored": self_ensembled(self.network, batch["noisy"], turns)}
        total = torch.zeros_like(batch["noisy"])
        for index, draw in enumerate(self._draws(batch)):
            total += restored_turned(self.network, self._recorrupted(batch, draw)[0], turns[index % len(turns)])
        return {"restored": total / self.config.passes}

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """The noise level of the whole image, where it is estimated or varies over the image."""
        return self.noise_level.image_statistics(batch) if self.config.distribution == "gaussian" else {}

    def noise_inputs(self) -> NoiseLevel | None:
        """The level of Gaussian noise, unless the noisy image itself is restored."""
        return self.noise_level if self.config.distribution == "gaussian" and self.config.passes else None

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Estimate what of the noise is not given from whole training images, and compare it with what is."""
        self.noise_level.calibrate(batches, required=self.config.distribution == "gaussian")

    def noise_model(self) -> NoiseModel | None:
        """The noise found in the training images."""
        return self.noise_level.found

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """What the method was told of the noise, or found."""
        if self.config.distribution == "gaussian":
            return replace(self.noise_level.assumed(field), signal="independent")
        signal = {"poisson": "poisson", "gamma": "multiplicative"}[self.config.distribution]
        cure = "train noise2noise on repeats, or set pipeline.noise=auto if the noise hardly depends on the signal"
        return AssumedNoise(signal=signal, cure=cure)

    def warnings(self) -> list[str]:
        """Whether the noise is what the settings say."""
        if self.config.distribution == "gaussian":
            return self.noise_level.warnings(self.config.name)
        found = self.noise_level.found.fields["noisy"] if self.noise_level.found else FieldNoise(0.0)
        if found.is_white:
            return []
        return [
            f"noise {self.config.noise} is split pixel by pixel, but the noise of 'noisy' has a correlation of "
            f"{found.correlation(0, 1):.2f} with the next pixel, and the result will keep that part: train noise2noise "
            "on repeats, or set pipeline.noise to auto if the noise hardly depends on the signal"
        ]

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Old checkpoints have no calibrated noise level and no shape of the noise."""
        return self.noise_level.migrate_state(tensors)

    def _draws(self, batch: Batch) -> Iterator[Tensor | Draw]:
        draws, is_gaussian = ImageDraws(batch["index"], self.draws), self.config.distribution == "gaussian"
        margin = self.noise_level.margin_px if is_gaussian else 0
        for draw in range(self.config.passes):
            if is_gaussian or self.draws == 1:
                yield draws.normals(batch["noisy"], draw, margin)
            else:
                yield draws.of(draw)

    def _recorrupted(self, batch: Batch, draw: Tensor | Draw) -> tuple[Tensor, Tensor]:
        """Two images with independent noise, in the units of the batch."""
        noisy, alpha = batch["noisy"], self.config.alpha
        if self.config.distribution == "gaussian":
            assert isinstance(draw, Tensor)
            coloured = self.noise_level.coloured("noisy", draw, noisy, batch.get("window"))
            return recorruption.gaussian(noisy, coloured, sigma=self._sigma(batch), alpha=alpha)
        if self.config.noise == "poisson":
            assert self.config.gain is not None
            return recorruption.poisson(noisy, draw, gain=self.config.gain / batch["noisy_scale"], alpha=alpha)
        assert self.config.looks is not None
        return recorruption.gamma(noisy, draw, looks=self.config.looks, alpha=alpha)

    def _sigma(self, batch: Batch) -> Tensor:
        """The noise level of each image in the units of the batch, (N, 1, 1, 1), or of each pixel, (N, 1, H, W)."""
        return self.noise_level.of_batch(batch)["noisy"]
