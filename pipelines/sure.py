"""SURE: a network learns from single noisy images by minimising an unbiased estimate of its own error."""

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from quell.configs.fields import FieldSpec, Needs
from quell.configs.schema import Rate
from quell.losses.noise.model import FieldNoise
from quell.pipelines.base import Batch, PhaseOutput, detached
from quell.pipelines.common.noise_calibration import NoiseLevel
from quell.pipelines.common.noise_settings import NoiseSetting
from quell.pipelines.common.random_numbers.image_draws import ImageDraws
from quell.pipelines.common.self_supervised.base import SelfSupervisedConfig, SelfSupervisedPipeline, signal_warnings
from quell.pipelines.common.self_supervised.divergence import divergence
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Finding


class Sure(SelfSupervisedPipeline["Sure.Config"]):
    """Stein's unbiased risk estimate as the loss, for Gaussian noise of known covariance.

    For y = x + n with n ~ N(0, S) and a network f, the expected squared error to the clean image x is that of

        |f(y) - y|^2 - tr S + 2 tr(J S)

    with the Jacobian J of f at y, whose trace is estimated with one draw of the noise. The estimate is the loss, and
    the scalar `mse_to_clean`: unbiased, hence negative by chance. The network sees the noisy image itself, not a copy
    with more noise as in R2R. Sources: Stein, Annals of Statistics 1981; Ramani, Blu and Unser, IEEE TIP 2008.
    """

    class Config(SelfSupervisedConfig):
        """Settings of SURE."""

        sigma: Rate | Literal["estimate", "estimate_each"] = "estimate"
        """Noise standard deviation in stored units (per component of complex images), as for cross_guided."""
        noise: NoiseSetting = "auto"
        """Covariance of the noise (pipelines/common/noise_settings.py)."""

    normals: ClassVar[dict[str, str]] = {"probe": "noisy"}

    def __init__(self, config: Config, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        self.noise_level = NoiseLevel(self, config.sigma, ["noisy"], config.noise)

    def training_needs(self) -> Needs:
        """As `needs`; where the noise has a shape, also the window of each crop, and numbers beyond its borders."""
        return self.noise_level.completed(type(self).needs(self.config))

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The unbiased estimate of the mean squared error to the clean image."""
        risk, parts = self._risk(batch, batch["probe"])
        scalars = {name: value.mean() for name, value in parts.items()}
        return PhaseOutput(risk.mean(), detached({**scalars, "mse_to_clean": risk.mean()}), {})

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Estimate what the settings leave open about the noise, from whole training images."""
        self.noise_level.calibrate(batches)
        self.found = self.noise_level.found

    def assumed_noise(self, field: str, found: FieldNoise) -> AssumedNoise | None:
        """What the method was told of the noise, or found."""
        return self.noise_level.assumed(field)

    def warnings(self) -> list[str]:
        """Whether the noise is what the settings say, and independent of the signal."""
        return signal_warnings(self.found, "sure") or self.noise_level.warnings("sure")

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the buffers of the noise where a checkpoint has none."""
        return self.noise_level.migrate_state(tensors)

    def image_statistics(self, batch: Batch) -> dict[str, Tensor]:
        """The noise level of the whole image, where it is estimated or varies over the image."""
        return self.noise_level.image_statistics(batch)

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per image: the estimated mean squared error to the clean image, in stored units, from the noisy one alone."""
        normal = ImageDraws(batch["index"], self.draws).normals(batch["noisy"], 0, self.noise_level.margin_px)
        risk, _ = self._risk(batch, normal)
        return {"mse_to_clean": risk.flatten(1).mean(1) * batch["noisy_scale"].flatten().square()}

    def findings(self, metrics: dict[str, float]) -> list[Finding]:
        """Whether the estimated error can be one, and is below the noise; needs no clean images."""
        risk = metrics.get("mse_to_clean")
        if risk is None:
            return []
        sigma = self.noise_level.model().fields["noisy"].sigma  # 0 where it is estimated per image
        message = f"the estimated mean squared error to the clean image is {risk:.3g}: "
        if risk <= 0:
            message += (
                "no error is negative; the true noise is weaker or less correlated than the assumed one: set "
                "pipeline.sigma"
            )
        elif sigma and risk >= sigma**2:
            message += f"no less than the noise's {sigma**2:.3g}; train longer, or see whether pipeline.noise is right"
        else:
            return [Finding("mse_to_clean", risk, 0.0, True, message + "below that of the noisy image")]
        return [Finding("mse_to_clean", risk, 0.0 if risk <= 0 else sigma**2, False, message)]

    def _risk(self, batch: Batch, normal: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The estimated squared error at every pixel, (N, C, H, W), in the units of the batch; and its parts."""
        noisy = batch["noisy"]
        sigma = self.noise_level.of_batch(batch)["noisy"]
        probe = sigma * self.noise_level.coloured("noisy", normal, noisy, batch.get("window"))
        with torch.autocast(noisy.device.type, enabled=False):
            restored = self.network(noisy)
        residual = (restored - noisy).square()
        trace = divergence(self.network, noisy, restored, probe)
        return residual - sigma.square() + 2 * trace, {"residual": residual, "divergence": trace}
