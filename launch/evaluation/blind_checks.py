"""Checks of restored images that need no clean ones: against the noise that the noisy images themselves show.

The noise is estimated from the noisy images of the split, whatever the method was told about it. A method that was told
wrong cannot make its own check agree with it.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from torch import Tensor

from configs.errors import DataError
from configs.fields import FieldSpec, Needs
from configs.schema import DataConfig
from configs.support.logs import get_logger
from launch.data import loading
from losses.noise.estimate import Estimate, estimate_noise
from losses.noise.model import FieldNoise
from pipelines.base import Batch, Output, Pipeline
from pipelines.common import residual_checks
from pipelines.reporting.checks import Finding
from shards.reading.shard_set import ShardSet

log = get_logger(__name__)

SAMPLED = 8
"""Noisy images that the noise is estimated from."""


class BlindChecks:
    """Compares what was removed from every image with its noise.

    An instance is an `evaluator.OnImage`. The values are named `<output>/residual_<check>`, see
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
        """Estimate the noise of the fields that the pipeline restores, from the first images of a split."""
        batches = loading.load_whole_images(shards, needs, data, SAMPLED)
        fields = {output.noisy: None for output in pipeline.outputs.values() if output.primary}
        noise = {}
        for name in fields:
            try:
                noise[name] = _estimate(batches, name, pipeline.fields[name])
            except DataError as error:
                log.debug("no checks without clean images for '%s': %s", name, error)
        return cls(pipeline.outputs, noise, pipeline.fields)

    def models(self) -> dict[str, FieldNoise]:
        """Field -> the model of its noise, in stored units."""
        return {name: estimate.noise for name, estimate in self.noise.items()}

    def __call__(self, batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, float]:
        """The checks of sample i of a batch."""
        values: dict[str, float] = {}
        for name, output in self._outputs.items():
            field = output.noisy
            one = {field: batch[field][i : i + 1], f"{field}_scale": batch[f"{field}_scale"][i : i + 1]}
            image = {field: restored[name][i : i + 1]}
            measured = residual_checks.diagnostics(one, image, self.models(), self._specs)
            values |= {f"{name}/{check}": float(value) for check, value in measured.items()}
            if self.noise[field].signal != "independent":
                # noise that grows with the signal follows edges by itself
                values.pop(f"{name}/residual_structure", None)
        return values


def findings(metrics: Mapping[str, float]) -> list[Finding]:
    """A verdict per check, from the metrics of an evaluation."""
    return residual_checks.findings(metrics)


def _estimate(batches: Iterable[Batch], name: str, spec: FieldSpec) -> Estimate:
    """The noise of a field in stored units, from repeats if the batches hold some, else from the images alone."""
    images, seconds = [], []
    second = name + "_second"
    for batch in batches:
        images += [
            _stored(image, scale, spec) for image, scale in zip(batch[name], batch[f"{name}_scale"], strict=True)
        ]
        if second in batch:
            pairs = zip(batch[second], batch[f"{second}_scale"], strict=True)
            seconds += [_stored(image, scale, spec) for image, scale in pairs]
    return estimate_noise(images, second=seconds if len(seconds) == len(images) else None)


def _stored(image_CHW: Tensor, scale: Tensor, spec: FieldSpec) -> np.ndarray:
    """An image in stored units, (H, W) or (H, W, C), complex where the channels are its parts."""
    array = np.moveaxis((image_CHW * scale).detach().cpu().numpy(), 0, -1)
    if spec.layout == "ri":
        array = array[..., ::2] + 1j * array[..., 1::2]
    return array[..., 0] if array.shape[-1] == 1 else array
