"""The classical baselines of an evaluation: their parameters, metrics and pictures."""

from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from quell.configs.baseline_names import Baseline
from quell.configs.errors import DataError
from quell.configs.support.logs import get_logger
from quell.launch.evaluation import baseline_tuning, baselines, report_picture
from quell.launch.evaluation.baseline_tuning import TrainingImage
from quell.launch.evaluation.baselines import BaselineOptions
from quell.launch.evaluation.images import to_uint8
from quell.launch.evaluation.measuring import host_metrics
from quell.launch.evaluation.measuring.host_work import HostImages, Job
from quell.launch.evaluation.measuring.metrics import Metric
from quell.launch.evaluation.measuring.stored_images import reference_field, stored_image
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch, Output

log = get_logger(__name__)

ReferenceCaption = Literal["clean", "second copy"]

RISK_TUNED: tuple[Baseline, ...] = ("nlm",)
"""Baselines whose strength depends on more than the level of correlated noise."""

PANEL_METRICS = ("psnr", "ssim")
"""Metrics written below the images of the picture."""


class BaselineEvaluator:
    """Adds the metrics of every baseline to the row of an image, and keeps pictures of the first images.

    An instance is an `evaluator.OnImage`; its work on several images may run at once. The values are named
    `<noisy field>/<baseline>/<metric>`: a baseline restores each noisy field once, however many outputs of the pipeline
    restore that field.
    """

    def __init__(
        self,
        outputs: dict[str, Output],
        names: list[Baseline],
        metrics: dict[str, Metric],
        data_range: float,
        *,
        pictures: int,
        noise: NoiseModel | None = None,
    ) -> None:
        """Args are the pipeline's outputs, the baselines to run, the images to keep pictures of, and the noise.

        Baselines are told the noise of a field that is not white; otherwise they estimate its level from each image.
        """
        self.outputs, self.names, self.metrics, self.data_range = outputs, names, metrics, data_range
        self.fields = {output.noisy: output for output in outputs.values()}
        """The noisy fields, each with one of the outputs that restore it."""
        self.noise: dict[str, FieldNoise] = {
            name: known for name, known in (noise.fields if noise else {}).items() if known.kind != "white"
        }
        """What baselines are told of the noise, by field."""
        self.options: dict[Baseline, BaselineOptions] = {name: {} for name in names}
        """Arguments of `baselines.restore`, by baseline."""
        self._drawn: list[report_picture.Row | None] = []
        """Places of the picture's rows, filled in by threads."""
        self._pictures_left = pictures
        self._name_samples = pictures > 1

    def use_published_parameters(self) -> None:
        """Run each baseline with the fixed parameters of the published scripts, where they have any."""
        for name in self.names:
            if name in baselines.HAVE_PUBLISHED_PARAMETERS:
                self.options[name] = {"preset": "published"}

    def tune(self, batches: list[Batch]) -> None:
        """Choose each baseline's parameters by the mean PSNR over the noisy fields of training images."""
        images = []
        for batch in batches:
            for field, output in self.fields.items():
                if output.clean not in batch:
                    raise DataError(f"--tune needs clean training images: missing field '{output.clean}'")
                scale, clean_scale = batch[f"{field}_scale"], batch[f"{output.clean}_scale"]
                images += [
                    TrainingImage(
                        stored_image(noisy, scale[i]), stored_image(clean, clean_scale[i]), self.noise.get(field)
                    )
                    for i, (noisy, clean) in enumerate(zip(batch[field], batch[output.clean], strict=True))
                ]
        for name in self.names:
            self.options[name] = baseline_tuning.tune(images, name, data_range=self.data_range)
            log.info(f"{name} tuned on {len(images)} training images: {self.options[name] or 'no parameters'}")

    def tune_without_clean_images(self, batches: list[Batch]) -> None:
        """Choose the strength of NLM, which cannot be told a spectrum, by an unbiased risk on noisy training images."""
        images = [
            TrainingImage(_part(noisy, batch[f"{field}_scale"][i]), noise=noise)
            for batch in batches
            for field, noise in self.noise.items()
            if field in self.fields
            for i, noisy in enumerate(batch[field])
        ]
        for name in self.names:
            if name in RISK_TUNED and images:
                self.options[name] = baseline_tuning.tune(images, name, data_range=self.data_range)
                log.info(f"{name} tuned on {len(images)} noisy training images: {self.options[name]}")

    def __call__(self, images: HostImages, i: int) -> Job | None:
        """Work that finds the baselines' metrics of sample i of a batch; None where there is nothing to do."""
        draw = self._pictures_left > 0
        self._pictures_left -= draw
        if not self.names and not draw:
            return None
        rows: list[report_picture.Row | None] = [None] * len(self.fields) if draw else []
        place = len(self._drawn)
        self._drawn += rows
        return partial(self._measure, images.batch, images.restored if draw else {}, i, place if draw else None)

    @property
    def picture_rows(self) -> list[report_picture.Row]:
        """What the report's picture shows: a row per noisy field of each of the first images."""
        return [row for row in self._drawn if row is not None]

    def _measure(self, batch: Batch, restored: dict[str, Tensor], i: int, place: int | None) -> dict[str, float]:
        """The baselines' metrics of sample i of a batch; its pictures are drawn from this place on."""
        values: dict[str, float] = {}
        for number, (field, output) in enumerate(self.fields.items()):
            noisy = stored_image(batch[field][i], batch[f"{field}_scale"][i])
            reference = reference_field(output, batch)
            clean = stored_image(batch[reference][i], batch[f"{reference}_scale"][i]) if reference else None
            told = self.noise.get(field)
            seen = noisy if told is None else _with_phase(batch[field][i], batch[f"{field}_scale"][i], noisy)
            denoised: dict[str, np.ndarray] = {
                name: baselines.restore(noisy, name, data_range=self.data_range, **self.options[name])
                if "preset" in self.options[name]
                else baselines.restore(seen, name, data_range=self.data_range, noise=told, **self.options[name])
                for name in self.names
            }
            values |= host_metrics.measure_images(
                {f"{field}/{name}/": image for name, image in denoised.items()},
                clean,
                noisy,
                data_range=self.data_range,
                metrics=self.metrics,
            )
            if place is not None:
                images = {"noisy": noisy}
                images |= {report_picture.display_name(name): image for name, image in denoised.items()}
                images |= self._restored_images(field, batch, restored, i)
                reference_caption: ReferenceCaption = "clean" if reference == output.clean else "second copy"
                row = self._picture_row(field, batch["key"][i], images, clean, reference_caption)
                self._drawn[place + number] = row
        return values

    def _restored_images(self, field: str, batch: Batch, restored: dict[str, Tensor], i: int) -> dict[str, np.ndarray]:
        """The images that the pipeline restored from a noisy field, by caption."""
        scale = batch[f"{field}_scale"][i]
        outputs = [name for name, output in self.outputs.items() if output.noisy == field]
        captions = {name: f"restored: {name.removeprefix(field + '_')}" for name in outputs}
        if len(outputs) == 1:
            captions = {outputs[0]: "restored"}
        return {caption: stored_image(restored[name][i], scale) for name, caption in captions.items()}

    def _picture_row(
        self,
        field: str,
        key: str,
        images: dict[str, np.ndarray],
        reference: np.ndarray | None,
        reference_caption: ReferenceCaption,
    ) -> report_picture.Row:
        """A row of the picture: the images with their PSNR and SSIM, as far as these are measured, and the reference.

        Args:
            field: The noisy field.
            key: The sample's key.
            images: By caption, the noisy image and everything that was restored from it.
            reference: What these are compared with, if there is anything.
            reference_caption: Which kind of reference it is.
        """
        metrics = {name: self.metrics[name] for name in PANEL_METRICS if name in self.metrics}
        panels = []
        for caption, image in images.items():
            scores = host_metrics.measure_images(
                {"": image}, reference, images["noisy"], data_range=self.data_range, metrics=metrics
            )
            panels.append(
                report_picture.Panel(caption, to_uint8(image, self.data_range), report_picture.format_scores(scores))
            )
        guide = len(panels) - 1
        if reference is not None:
            panels.append(report_picture.Panel(reference_caption, to_uint8(reference, self.data_range)))
            if reference_caption == "clean":  # the strongest edges of a noisy copy are noise
                guide += 1
        sample = key if self._name_samples else ""
        return report_picture.Row(report_picture.display_name(field), panels, guide, sample)


def _part(image_CHW: Tensor, scale: Tensor) -> np.ndarray:
    """An image with Gaussian noise in stored units: of a complex one the real part, of others the image itself."""
    image = _with_phase(image_CHW, scale, stored_image(image_CHW, scale))
    return np.ascontiguousarray(image.real) if np.iscomplexobj(image) else image


def _with_phase(image_CHW: Tensor, scale: Tensor, magnitude: np.ndarray) -> np.ndarray:
    """A complex image in stored units, as complex numbers; others as they are."""
    if image_CHW.is_complex():
        return image_CHW[0].cpu().numpy() * float(scale)
    if image_CHW.shape[0] == 2:
        real, imaginary = image_CHW.cpu().double().numpy() * float(scale)
        return np.asarray(real + 1j * imaginary)
    return magnitude
