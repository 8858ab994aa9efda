"""Recorrupted-to-Recorrupted: a network learns from single noisy images whose noise is known."""

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
from pipelines.common import noise_calibration, recorruption


class R2R(Pipeline["R2R.Config"]):
    """Each step makes two images with independent noise from every noisy one, and predicts the second from the first.

    Needs no clean image and no second noisy one, but the law of the noise. Pang et al., CVPR 2021; GR2R, CVPR 2025.
    """

    class Config(PipelineConfig):
        """Settings of R2R."""

        network: Network = {"name": "dncnn"}
        """Network from the noisy image to the restored one."""
        noise: Literal["gaussian", "poisson", "gamma"] = "gaussian"
        """Law of the noise: additive white Gaussian, Poisson counts times a gain, or Gamma speckle."""
        sigma: Rate | Literal["estimate"] | None = None
        """Gaussian: standard deviation in stored units, or `estimate`: the median over whole training images, measured
        once and kept with the weights."""
        gain: Rate | None = None
        """Poisson: stored units per count."""
        looks: Rate | None = None
        """Gamma: shape of the speckle, mean^2 / variance."""
        alpha: Rate = 0.5
        """Gaussian: noise added to the first image, in sigmas; the second gets 1 / alpha of it, taken away.
        Poisson and Gamma: share of the image that makes the second one, below 1."""
        loss: str = "l2"
        """The squared error; no other is allowed."""
        passes: Count = 50
        """Recorrupted copies whose restorations are averaged at inference; 0 restores the noisy image itself once."""

        @field_validator("loss")
        @classmethod
        def _squared(cls, loss: str) -> str:
            if loss != "l2":
                raise ValueError(
                    f"'{loss}' would not learn the clean image: R2R's target carries extra noise that only the squared "
                    "error averages away; the loss must be l2"
                )
            return loss

        @model_validator(mode="after")
        def _law_is_complete(self) -> "R2R.Config":
            key = {"gaussian": "sigma", "poisson": "gain", "gamma": "looks"}
            problems = []
            if getattr(self, key[self.noise]) is None:
                problems.append(f"noise {self.noise} needs {key[self.noise]}")
            extra = [name for law, name in key.items() if law != self.noise and getattr(self, name) is not None]
            if extra:
                problems.append(f"{' and '.join(extra)} is not read with noise {self.noise}")
            if self.noise != "gaussian" and self.alpha >= 1:
                problems.append(f"alpha is a share with noise {self.noise}: it must be below 1")
            if problems:
                raise registry.SettingsError(problems)
            return self

    levels: Tensor

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        noisy = fields["noisy"]
        if noisy.is_complex:
            raise ConfigError("r2r trains real networks: set data.representation to ri (two channels)")
        if config.noise != "gaussian" and noisy.layout == "ri":
            raise ConfigError(f"{config.noise} noise is of magnitudes: set data.representation to magnitude")
        self.network = registry.build("models", config.network, in_channels=noisy.channels, out_channels=noisy.channels)
        self.distance = L2()
        self.calibrates = config.sigma == "estimate"
        if self.calibrates:
            self.register_buffer(noise_calibration.BUFFER, torch.zeros(1))
        self._known = noise_calibration.HostCopy()
        self.phases = {"restorer": ("network",)}
        self.outputs = {"restored": Output("noisy", "clean")}

    @classmethod
    def needs(cls, config: Config) -> Needs:
        """Noisy images and one noise draw; the clean one only to measure."""
        clean = Source(scale_of="noisy", optional=True, evaluation=True)
        return Needs({"noisy": Source(), "clean": clean}, {"recorruption": "noisy"})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """Mean squared error between the restored first image and the second one.

        With Gaussian noise the part `mse_to_clean` is the loss less the known noise of the second image: what the mean
        squared error to the clean image is expected to be, from noisy images alone; chance can make it negative.
        """
        first, second = self._recorrupt(batch, batch["recorruption"])
        loss = self.distance(self.network(first), second)
        parts = {"l2": loss}
        if self.config.noise == "gaussian":
            sigma = self._sigma(batch)
            floor = (1 + self.config.alpha**-2) * sigma.square().mean()
            parts |= {"mse_to_clean": loss - floor, "sigma": (sigma * batch["noisy_scale"]).mean()}
        return PhaseOutput(loss, detached(parts), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The mean of `passes` restorations of recorrupted copies, whose noise depends on the sample's index alone."""
        if self.config.passes == 0:
            return {"restored": self.network(batch["noisy"])}
        total = torch.zeros_like(batch["noisy"])
        for normal in self._draws(batch):
            total += self.network(self._recorrupt(batch, normal)[0])
        return {"restored": total / self.config.passes}

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Take the noise level, in stored units, from whole training images: the median over them."""
        self.levels.copy_(noise_calibration.measured(batches, ["noisy"]))

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The noise level was not always kept."""
        return noise_calibration.migrate_state(tensors, 1) if self.calibrates else tensors

    def _draws(self, batch: Batch) -> Iterator[Tensor]:
        indices = [int(index) for index in batch["index"]]
        for draw in range(self.config.passes):
            yield recorruption.seeded_normals(batch["noisy"], indices, draw)

    def _recorrupt(self, batch: Batch, normal: Tensor) -> tuple[Tensor, Tensor]:
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
        """Noise of each sample in the units of the batch, (N, 1, 1, 1)."""
        known = self._known.of(self.levels)[0] if self.calibrates else self.config.sigma
        assert isinstance(known, float)
        return known / batch["noisy_scale"] if known else recorruption.estimated_sigma(batch["noisy"])
