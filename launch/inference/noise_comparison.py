"""Is the noise of an image that is to be restored the noise that the run was trained on?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch, Pipeline
from quell.pipelines.common import noise_audit
from quell.pipelines.reporting.noise_range import NoiseRange

LEVEL_RATIO = 1.5
"""Ratio between noise levels from which they count as different; one image tells a level to about a fifth."""
TAIL = 3.1
"""Standard deviations below its mean of the 0.1th percentile of Gaussian noise (launch/data/training_levels.py)."""
CORRELATION_DIFFERENCE = 0.3
"""Difference between the correlations of neighbouring pixels from which they count as different."""


class NoiseFindings(NamedTuple):
    """What a comparison found; a field whose noise is that of the training is in neither of them."""

    differences: list[str]
    """Half a sentence for each field with other noise in an image."""
    unknown: list[str]
    """Why the noise of a field could be measured in no image, for each such field."""


@dataclass(frozen=True)
class NoiseComparison:
    """The noise that a run was trained on, to compare that of other images with."""

    trained_on: Mapping[str, FieldNoise]
    """Field -> the noise of the run's training images, as the run saved it; fields without an entry count as white."""
    ranges: Mapping[str, NoiseRange]
    """Field -> the levels that the run was trained on; fields without an entry are not compared."""
    specs: dict[str, FieldSpec]
    """What the images of each field are."""

    @staticmethod
    def of_run(folder: RunFolder, pipeline: Pipeline) -> "NoiseComparison":
        """The comparison with what a run was trained on."""
        found = NoiseModel.load(folder.noise) if folder.noise.is_file() else None
        return NoiseComparison(found.fields if found else {}, pipeline.noise_ranges(found), pipeline.fields)

    def reach(self) -> dict[str, float]:
        """Field -> how far the strongest noise of a family darkens the darkest pixels, for fields that have a family.

        Of one level, the training images themselves show it.
        """
        families = {name: levels for name, levels in self.ranges.items() if levels.high > levels.low}
        return {name: TAIL * widened(levels).high for name, levels in families.items()}

    def findings(self, batch: Batch, names: Sequence[str] = ("",)) -> NoiseFindings:
        """Compare the noise of each image of a batch, field by field: one that cannot be measured hides no other.

        Args:
            batch: Images as the pipeline takes them.
            names: What messages add for each image, such as " in image 2 of 9"; as many as there are images.
        """
        differences, unknown = [], []
        for field in (field for field in self.ranges if field in batch):
            measured: list[str] = []
            problems: list[str] = []
            for number, name in enumerate(names):
                try:
                    image = {key: value[number : number + 1] for key, value in batch.items()}
                    noise = noise_audit.noise_of_image(image, field, self.specs)
                    measured.append(self._difference(field, name, noise))
                except DataError as error:
                    problems.append(str(error))
            differences += [sentence for sentence in measured if sentence][:1]
            unknown += problems[:1] if not measured else []
        return NoiseFindings(differences, unknown)

    def _difference(self, field: str, name: str, noise: FieldNoise) -> str:
        """What differs between the noise of an image and that of the training; empty where nothing does."""
        levels, shape = self.ranges[field], self.trained_on.get(field, FieldNoise(1.0))
        accepted = widened(levels)
        if accepted.low <= noise.sigma <= accepted.high and (levels.any_shape or not _differ_in_shape(noise, shape)):
            return ""
        words = f"a standard deviation of {noise.sigma:.3g}"
        trained = f"{levels.low:.3g}" + (f" to {levels.high:.3g}" if levels.high > levels.low else "")
        if not levels.any_shape:
            words += f" and a correlation of {noise.correlation(0, 1):.2f} with the next pixel"
            trained += f" and {shape.correlation(0, 1):.2f}"
        return f"the noise of '{field}'{name} has {words}, but that of the training images had {trained}"


def widened(levels: NoiseRange) -> NoiseRange:
    """The levels that do not count as different."""
    return replace(levels, low=levels.low / LEVEL_RATIO, high=levels.high * LEVEL_RATIO)


def _differ_in_shape(noise: FieldNoise, trained: FieldNoise) -> bool:
    return max(abs(noise.correlation(*lag) - trained.correlation(*lag)) for lag in ((0, 1), (1, 0))) > (
        CORRELATION_DIFFERENCE
    )
