"""Metrics by name, as an evaluation applies them: with or without a clean image, on given or detected regions."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quell.configs.errors import ConfigError
from quell.configs.registry import names
from quell.configs.support.suggestions import did_you_mean
from quell.losses.metrics.common.batch_form import BatchForm
from quell.losses.metrics.common.images import Image
from quell.losses.metrics.common.rois import Rois, find_rois

FOLDER = "losses/metrics"

REPORTED_TOGETHER = {"gcmse": "gcmse_per_pixel"}
"""A metric that grows with the size of the image -> the one that does not, which is always reported as well."""


@dataclass(frozen=True)
class Metric:
    """One function of losses/metrics."""

    function: Callable[..., float]
    rois: Rois | None = None
    """The regions that a region metric is computed on; None detects them."""

    @property
    def needs_clean(self) -> bool:
        """Whether it compares with a clean image and is undefined without one."""
        return inspect.signature(self.function).parameters["clean"].default is inspect.Parameter.empty

    @property
    def smallest_px(self) -> int:
        """The least height and width of an image that it can be computed of: SMALLEST_PX of its module."""
        module = importlib.import_module(self.function.__module__)
        return int(getattr(module, "SMALLEST_PX", 1))

    @property
    def batch_form(self) -> BatchForm | None:
        """How it is computed of batches on a device: BATCH_FORM of its module; None where only arrays are measured."""
        form = getattr(importlib.import_module(self.function.__module__), "BATCH_FORM", None)
        return form if isinstance(form, BatchForm) else None

    @property
    def uses_regions(self) -> bool:
        """Whether it is computed on regions of interest."""
        return "rois" in inspect.signature(self.function).parameters

    def __call__(self, image: Image, clean: Image | None, *, noisy: Image, data_range: float) -> float | None:
        """Compute the metric of one image.

        Regions that are not given are detected in the clean image, or without one in the noisy image: they are the same
        for everything restored from it.

        Args:
            image: (H, W) or (H, W, C), in stored units.
            clean: The image it is compared with, where there is one.
            noisy: The image it was restored from.
            data_range: Range of the stored values.

        Returns:
            The value, or None where the metric needs a clean image and there is none.
        """
        if clean is None and self.needs_clean:
            return None
        options = {}
        if self.uses_regions:
            options["rois"] = self.rois or find_rois(noisy if clean is None else clean)
        return float(self.function(image, clean, data_range=data_range, **options))


def find(wanted: list[str], rois: Path | None = None) -> dict[str, Metric]:
    """Look up metrics, and those that are always reported with them.

    Args:
        wanted: Names of files in losses/metrics/.
        rois: A file of regions for the metrics that use any.

    Returns:
        The metrics by name, in the order asked for.

    Raises:
        ConfigError: A name is unknown, or regions are given but no metric uses them.
        DataError: The file does not hold regions.
    """
    known = names(FOLDER)
    if unknown := [f"no metric '{name}'; {did_you_mean(name, known)}" for name in wanted if name not in known]:
        raise ConfigError(unknown)
    chosen = dict.fromkeys(name for metric in wanted for name in (metric, REPORTED_TOGETHER.get(metric, metric)))
    regions = None if rois is None else Rois.from_file(rois)
    metrics = {
        name: Metric(getattr(importlib.import_module(f"quell.{FOLDER.replace('/', '.')}.{name}"), name), regions)
        for name in chosen
    }
    if regions is not None and not any(metric.uses_regions for metric in metrics.values()):
        raise ConfigError(f"--rois is given, but {', '.join(metrics)} use no regions: add --metrics cnr enl msr")
    return metrics
