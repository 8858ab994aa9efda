"""Is the noise of an image that is to be restored the noise that the run was trained on?"""

from dataclasses import dataclass

from quell.configs.fields import FieldSpec
from quell.launch.runs.folder import RunFolder
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.pipelines.base import Batch
from quell.pipelines.common import noise_audit

LEVEL_RATIO = 1.5
"""Ratio between noise levels from which they count as different; one image tells a level to about a fifth."""
CORRELATION_DIFFERENCE = 0.3
"""Difference between the correlations of neighbouring pixels from which they count as different."""


@dataclass(frozen=True)
class NoiseComparison:
    """The noise of a run's training images, to compare others with."""

    trained_on: NoiseModel | None
    """As the run saved it; None where it saved none."""
    specs: dict[str, FieldSpec]
    """What the images of each field are."""

    @staticmethod
    def of_run(folder: RunFolder, specs: dict[str, FieldSpec]) -> "NoiseComparison":
        """The comparison with a run's training images."""
        return NoiseComparison(NoiseModel.load(folder.noise) if folder.noise.is_file() else None, specs)

    def differences(self, batch: Batch) -> list[str]:
        """A sentence for each field whose noise in the first image of a batch is not that of the training."""
        if self.trained_on is None:
            return []
        fields = [name for name in self.trained_on.fields if name in batch]
        first = {key: value[:1] for key, value in batch.items()}
        found = noise_audit.noise_of([first], fields, self.specs)
        sentences = []
        for name, noise in (found.fields if found else {}).items():
            trained = self.trained_on.fields[name]
            if _differ(noise, trained):
                sentences.append(
                    f"the noise of '{name}' has a standard deviation of {noise.sigma:.3g} and a correlation of "
                    f"{noise.correlation(0, 1):.2f} with the next pixel, but that of the training images had "
                    f"{trained.sigma:.3g} and {trained.correlation(0, 1):.2f}: expect noise that is left or detail "
                    "that is lost, and train on images like this one"
                )
        return sentences


def _differ(noise: FieldNoise, trained: FieldNoise) -> bool:
    levels = sorted((max(noise.sigma, 1e-30), max(trained.sigma, 1e-30)))
    by_correlation = max(abs(noise.correlation(*lag) - trained.correlation(*lag)) for lag in ((0, 1), (1, 0)))
    return levels[1] > LEVEL_RATIO * levels[0] or by_correlation > CORRELATION_DIFFERENCE
