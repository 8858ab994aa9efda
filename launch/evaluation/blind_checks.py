"""Checks of restored images that need no clean ones: against the noise that the noisy images themselves show.

The noise is estimated from the noisy images of the split, whatever the method was told about it. A method that was told
wrong cannot make its own check agree with it.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec, Needs
from quell.configs.schema import DataConfig
from quell.configs.support.logs import get_logger
from quell.launch.data import loading, splits
from quell.losses.noise.estimate import Estimate
from quell.losses.noise.model import FieldNoise
from quell.pipelines.base import Batch, Output, Pipeline
from quell.pipelines.common import residual_checks, rician
from quell.pipelines.common.noise_audit import NoiseAudit
from quell.pipelines.common.noise_sampling import NoiseShape
from quell.pipelines.reporting.checks import Finding
from quell.shards.reading.shard_set import ShardSet

log = get_logger(__name__)

SAMPLED = 8
"""Noisy images that the noise is estimated from."""

FEW = 4
"""A split with fewer images hardly shows how noise varies over them."""


class BlindChecks:
    """Compares what was removed from every image with its noise.

    An instance is an `evaluator.OnBatch`. The values are named `<output>/residual_<check>`, see
    losses/noise/residuals.py; fields whose noise cannot be estimated have none.
    """

    def __init__(
        self, outputs: Mapping[str, Output], noise: Mapping[str, Estimate], specs: Mapping[str, FieldSpec]
    ) -> None:
        """Args are the pipeline's outputs, and of each noisy field the noise and the layout of its channels."""
        self.noise = noise
        self._outputs = {name: output for name, output in outputs.items() if output.noisy in noise}
        self._specs = specs

    @classmethod
    def of_split(cls, pipeline: Pipeline, shards: ShardSet, needs: Needs, data: DataConfig) -> "BlindChecks":
        """Estimate the noise of the fields that the pipeline restores, from the first images of a split.

        A few images hardly show how noise varies over them all. Where the training images, together with them, show
        it, that is their noise.
        """
        fields = list(dict.fromkeys(output.noisy for output in pipeline.outputs.values() if output.primary))
        audit = NoiseAudit(fields, pipeline.fields)
        for batch in loading.load_whole_images(shards, needs, data, SAMPLED):
            audit.add(batch)
        noise, problems = audit.estimates()
        for problem in problems:
            log.debug("no checks without clean images: %s", problem)
        if len(shards) < FEW and noise and (training := _training_images(needs, data)):
            for batch in training:
                audit.add(batch)
            varying = {name: each for name, each in audit.estimates()[0].items() if each.noise.level_map is not None}
            noise |= {name: each for name, each in varying.items() if name in noise}
        return cls(pipeline.outputs, noise, pipeline.fields)

    @classmethod
    def none(cls, pipeline: Pipeline) -> "BlindChecks":
        """Checks that measure nothing."""
        return cls(pipeline.outputs, {}, pipeline.fields)

    def models(self) -> dict[str, FieldNoise]:
        """Field -> the model of its noise, in stored units."""
        return {name: estimate.noise for name, estimate in self.noise.items()}

    def __call__(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        """The checks of every image of a batch, (N,)."""
        values: dict[str, Tensor] = {}
        for name, output in self._outputs.items():
            field = output.noisy
            if self.noise[field].signal == "rician":
                measured = self._of_magnitudes(batch, field, restored[name])
            else:
                measured = residual_checks.diagnostics(batch, {field: restored[name]}, self.models(), self._specs)
            if self.noise[field].signal != "independent":
                # noise that grows with the signal follows edges by itself
                measured.pop("residual_structure")
            values |= {f"{name}/{check}": value for check, value in measured.items()}
        return values

    def _of_magnitudes(self, batch: Batch, field: str, restored: Tensor) -> dict[str, Tensor]:
        """The checks of magnitudes: against their mean at the restored signal, with the deviation that they have there.

        Image by image, since the spectrum of the noise depends on how much of the image has no signal.
        """
        noise, scale = self.noise[field].noise, batch[f"{field}_scale"]
        sigma = noise.sigma / scale
        noisy = restored + rician.residual(batch[field], restored, sigma)
        shares = rician.gaussian_share(restored, sigma).flatten(1).mean(1).tolist()
        without_signal = NoiseShape(noise).of_magnitudes().noise
        measured = []
        for i, share in enumerate(shares):
            seen = {field: noisy[i : i + 1], f"{field}_scale": scale[i : i + 1]}
            mixed = noise
            if noise.spectrum is not None and without_signal.spectrum is not None:
                mixed = replace(noise, spectrum=share * noise.spectrum + (1 - share) * without_signal.spectrum)
            measured.append(
                residual_checks.diagnostics(seen, {field: restored[i : i + 1]}, {field: mixed}, self._specs)
            )
        return {check: torch.cat([image[check] for image in measured]) for check in measured[0]}


def _training_images(needs: Needs, data: DataConfig) -> list[Batch]:
    """The first training images; none where they cannot be read, as where only a test split is at hand."""
    try:
        return loading.load_whole_images(splits.open_split(data, data.train_split), needs, data, SAMPLED)
    except DataError:
        return []


def findings(metrics: Mapping[str, float]) -> list[Finding]:
    """A verdict per check, from the metrics of an evaluation."""
    return residual_checks.findings(metrics)
