"""Metrics by name, as an evaluation applies them: with a clean image or without, on given regions or found ones."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigError
from configs.registry import names
from configs.support.suggestions import did_you_mean
from losses.metrics.common.images import Image
from losses.metrics.common.rois import Rois, automatic

FOLDER = "losses/metrics"
BESIDE = {"gcmse": "gcmse_per_pixel"}
"""Metric that depends on the size of the image -> the one that does not, which is always reported with it."""


@dataclass(frozen=True)
class Metric:
    """One function of losses/metrics."""

    function: Callable[..., float]
    rois: Rois | None = None
    """Regions that a metric of regions looks at; None finds them."""

    @property
    def needs_clean(self) -> bool:
        """Whether it compares with a clean image, so that it says nothing without one."""
        return inspect.signature(self.function).parameters["clean"].default is inspect.Parameter.empty

    @property
    def looks_at_regions(self) -> bool:
        """Whether it is of regions of interest."""
        return "rois" in inspect.signature(self.function).parameters

    def __call__(self, image: Image, clean: Image | None, *, noisy: Image, data_range: float) -> float | None:
        """Its value for one image, (H, W) or (H, W, C); None where there is no clean image to compare with.

        Without given regions they are found in the clean image, or where there is none in the noisy one: the same for
        everything that is made of it.
        """
        if clean is None and self.needs_clean:
            return None
        options = {}
        if self.looks_at_regions:
            options["rois"] = self.rois or automatic(noisy if clean is None else clean)
        return float(self.function(image, clean, data_range=data_range, **options))


def find(wanted: list[str], rois: Path | None = None) -> dict[str, Metric]:
    """Metrics by the names of their files, and what belongs beside them; `rois` is a file of regions.

    Raises ConfigError for unknown names, and for regions that no metric looks at; DataError for a file that holds none.
    """
    known = names(FOLDER)
    if unknown := [f"no metric '{name}'; {did_you_mean(name, known)}" for name in wanted if name not in known]:
        raise ConfigError(unknown)
    chosen = dict.fromkeys(name for one in wanted for name in (one, BESIDE.get(one, one)))
    given = None if rois is None else Rois.from_file(rois)
    found = {
        name: Metric(getattr(importlib.import_module(f"{FOLDER.replace('/', '.')}.{name}"), name), given)
        for name in chosen
    }
    if given is not None and not any(metric.looks_at_regions for metric in found.values()):
        raise ConfigError(f"--rois gives regions, but {', '.join(found)} look at none: add --metrics cnr enl msr")
    return found
