"""Recorrupted-to-Recorrupted: a network learns from single noisy images whose noise distribution is known."""

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from pydantic import field_validator, model_validator
from torch import Tensor

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec, Needs, Source
from configs.schema import Count, Network, PipelineConfig, Rate
from losses.l2 import L2
from pipelines.base import Batch, Output, PhaseOutput, Pipeline, detached
from pipelines.common import recorruption
from pipelines.common.noise_calibration import NoiseLevel

PARAMETER = {"gaussian": "sigma", "poisson": "gain", "gamma": "looks"}
"""Noise distribution -> the setting that holds its parameter."""


class R2R(Pipeline["R2R.Config"]):
    """Each step derives two images with independent noise from a noisy one and predicts the second from the first.

    Needs neither clean images nor second noisy ones, but the distribution of the noise. Sources: Pang et al., CVPR 2021
    (Gaussian); Monroy, Bacca and Tachella, CVPR 2025 (Poisson, Gamma).
    """

    class Config(PipelineConfig):
        """Settings of R2R."""

        network: Network = {"name": "dncnn"}
        """Network from the noisy image to the restored one."""
        noise: Literal["gaussian", "poisson", "gamma"] = "gaussian"
        """Distribution of the noise: additive white Gaussian; Poisson counts times a gain; Gamma-distributed
        speckle."""
        sigma: Rate | Literal["estimate"] | None = None
        """Gaussian: standard deviation in stored units; or `estimate`, the median over whole training images, measured
        once and saved with the weights."""
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
            if getattr(self, PARAMETER[self.noise]) is None:
                problems.append(f"noise {self.noise} needs {PARAMETER[self.noise]}")
            unused = [
                name for noise, name in PARAMETER.items() if noise != self.noise and getattr(self, name) is not None
            ]
            if unused:
                problems.append(f"{' and '.join(unused)} is not read with noise {self.noise}")
            if self.noise != "gaussian" and self.alpha >= 1:
                problems.append(f"alpha is a share with noise {self.noise}: it must be below 1, got {self.alpha:g}")
            if problems:
                raise registry.SettingsError(problems)
            return self

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        noisy = fields["noisy"]
        if noisy.is_complex:
            raise ConfigError("r2r trains real networks: set data.representation to ri (two channels)")
        if config.noise != "gaussian" and noisy.layout == "ri":
            raise ConfigError(f"{config.noise} noise is a model of magnitudes: set data.representation to magnitude")
        self.network = registry.build("models", config.network, in_channels=noisy.channels, out_channels=noisy.channels)
        self.distance = L2()
        self.noise_level = None if config.sigma is None else NoiseLevel(self, config.sigma, ["noisy"])
        self.calibrates = config.sigma == "estimate"
        self.phases = {"restorer": ("network",)}
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy images and random numbers to recorrupt them; clean images for evaluation only."""
        clean = Source(scale_of="noisy", optional=True, evaluation=True)
        return Needs({"noisy": Source(), "clean": clean}, {"recorruption": "noisy"})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Mean squared error between the restored first image and the second one.

        For Gaussian noise the scalar `mse_to_clean` is the loss minus the known noise power of the second image: the
        expected squared error to the clean image, from noisy images alone. By chance it can be negative.
        """
        first, second = self._recorrupted(batch, batch["recorruption"])
        loss = self.distance(self.network(first), second)
        scalars = {"l2": loss}
        if self.config.noise == "gaussian":
            sigma = self._sigma(batch)
            floor = (1 + self.config.alpha**-2) * sigma.square().mean()
            scalars |= {"mse_to_clean": loss - floor, "sigma": (sigma * batch["noisy_scale"]).mean()}
        return PhaseOutput(loss, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over `passes` restored copies, whose recorruption depends on the sample's index alone."""
        if self.config.passes == 0:
            return {"restored": self.network(batch["noisy"])}
        total = torch.zeros_like(batch["noisy"])
        for normal in self._draws(batch):
            total += self.network(self._recorrupted(batch, normal)[0])
        return {"restored": total / self.config.passes}

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Estimate the noise level from whole training images, for sigma `estimate`."""
        assert self.noise_level is not None
        self.noise_level.calibrate(batches)

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Old checkpoints have no calibrated noise level."""
        return self.noise_level.migrate_state(tensors) if self.noise_level is not None else tensors

    def _draws(self, batch: Batch) -> Iterator[Tensor]:
        indices = [int(index) for index in batch["index"]]
        for draw in range(self.config.passes):
            yield recorruption.seeded_normals(batch["noisy"], indices, draw)

    def _recorrupted(self, batch: Batch, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Two images with independent noise, in the units of the batch."""
        noisy, alpha = batch["noisy"], self.config.alpha
        if self.config.noise == "gaussian":
            return recorruption.gaussian(noisy, normal, sigma=self._sigma(batch), alpha=alpha)
        if self.config.noise == "poisson":
            assert self.config.gain is not None
            return recorruption.poisson(noisy, normal, gain=self.config.gain / batch["noisy_scale"], alpha=alpha)
        assert self.config.looks is not None
        return recorruption.gamma(noisy, normal, looks=self.config.looks, alpha=alpha)

    def _sigma(self, batch: Batch) -> Tensor:
        """The noise level of each image in the units of the batch, (N, 1, 1, 1)."""
        assert self.noise_level is not None
        return self.noise_level.of_batch(batch)["noisy"]
