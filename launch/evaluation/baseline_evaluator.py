"""The classical baselines of an evaluation: their parameters, metrics and pictures."""

import numpy as np
from torch import Tensor

from configs.baseline_names import Baseline
from configs.errors import DataError
from configs.support.logs import get_logger
from launch.evaluation import baselines, evaluator
from launch.evaluation.baselines import BaselineOptions
from launch.evaluation.evaluator import reference_field, stored_image
from launch.evaluation.images import to_uint8
from launch.evaluation.metrics import Metric
from launch.evaluation.report import Strip
from pipelines.base import Batch, Output

log = get_logger(__name__)


class BaselineEvaluator:
    """Adds the metrics of every baseline to the row of an image, and keeps pictures of the first images.

    An instance is an `evaluator.OnImage`. The values are named `<noisy field>/<baseline>/<metric>`: a baseline restores
    each noisy field once, however many outputs of the pipeline restore that field.
    """

    def __init__(
        self,
        outputs: dict[str, Output],
        names: list[Baseline],
        metrics: dict[str, Metric],
        data_range: float,
        *,
        pictures: int,
    ) -> None:
        """Args are the pipeline's outputs, the baselines to run, and the number of images to keep pictures of."""
        self.outputs, self.names, self.metrics, self.data_range = outputs, names, metrics, data_range
        self.fields = {output.noisy: output for output in outputs.values()}
        """The noisy fields, each with one of the outputs that restore it."""
        self.options: dict[Baseline, BaselineOptions] = {name: {} for name in names}
        """Arguments of `baselines.restore`, by baseline."""
        self.strips: list[Strip] = []
        self._pictures_left = pictures

    def use_published_parameters(self) -> None:
        """Run each baseline with the fixed parameters of the published scripts, where they have any."""
        for name in self.names:
            if name in baselines.HAVE_PUBLISHED_PARAMETERS:
                self.options[name] = {"preset": "published"}

    def tune(self, batches: list[Batch]) -> None:
        """Choose each baseline's parameters by the mean PSNR over the noisy fields of training images."""
        pairs = []
        for batch in batches:
            for field, output in self.fields.items():
                if output.clean not in batch:
                    raise DataError(f"--tune needs clean training images: missing field '{output.clean}'")
                scale, clean_scale = batch[f"{field}_scale"], batch[f"{output.clean}_scale"]
                pairs += [
                    (stored_image(noisy, scale[i]), stored_image(clean, clean_scale[i]))
                    for i, (noisy, clean) in enumerate(zip(batch[field], batch[output.clean], strict=True))
                ]
        for name in self.names:
            self.options[name] = baselines.tune(pairs, name, data_range=self.data_range)
            log.info(f"{name} tuned on {len(pairs)} training images: {self.options[name] or 'no parameters'}")

    def __call__(self, batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, float]:
        """The baselines' metrics of sample i of a batch."""
        values: dict[str, float] = {}
        draw = self._pictures_left > 0
        self._pictures_left -= draw
        for field, output in self.fields.items():
            noisy = stored_image(batch[field][i], batch[f"{field}_scale"][i])
            reference = reference_field(output, batch)
            clean = stored_image(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
            denoised: dict[str, np.ndarray] = {
                name: baselines.restore(noisy, name, data_range=self.data_range, **self.options[name])
                for name in self.names
            }
            values |= evaluator.measure_images(
                {f"{field}/{name}/": image for name, image in denoised.items()},
                clean,
                noisy,
                data_range=self.data_range,
                metrics=self.metrics,
            )
            if draw:
                captioned = {"noisy": noisy, **{name: image for name, image in denoised.items() if name != "noisy"}}
                captioned |= self._outputs_of(field, batch, restored, i)
                captioned |= {} if clean is None else {"clean": clean}
                panels = [(caption, to_uint8(image, self.data_range)) for caption, image in captioned.items()]
                self.strips.append((batch["key"][i], panels))
        return values

    def _outputs_of(self, field: str, batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, np.ndarray]:
        """What the pipeline restored from a noisy field, by output."""
        scale = batch[f"{field}_scale"][i]
        return {
            name: stored_image(restored[name][i], scale)
            for name, output in self.outputs.items()
            if output.noisy == field
        }
