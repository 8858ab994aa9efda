"""Is one method better than another on the same images? Differences per image, which are far more alike than scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, wilcoxon

from quell.configs.errors import DataError
from quell.launch.differences.figures import UNITS, figure

RESAMPLES = 10_000
"""Bootstrap samples behind an interval."""


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the first of two measurements of the same images is."""

    images: int
    median: float
    """Median difference."""
    low: float
    """Lower end of the 95 % bootstrap interval of the median."""
    high: float
    """Upper end."""
    p: float
    """Two-sided p of the Wilcoxon signed-rank test; the least it can be for n images is 2 / 2**n. NaN for one image."""
    sign: int
    """Which measurement that test favours: 1 where the ranks of positive differences sum to more, -1, or 0."""

    def words(self, metric: str, counted: str = "images") -> str:
        """The difference in words, in the digits and the unit of what was measured."""
        median, low, high = (figure(metric, value, signed=True) for value in (self.median, self.low, self.high))
        unit = f" {UNITS[metric]}" if metric in UNITS else ""
        return f"{median}{unit} (median of {self.images} {counted}, 95 % interval {low} to {high}, p = {self.p:.2g})"


def paired_difference(first: ArrayLike, second: ArrayLike) -> PairedDifference:
    """Compare two measurements of the same images.

    Args:
        first: Values of one method, (n,).
        second: Values of the other on the same images in the same order, (n,). Pairs with a value that is not finite
            are left out.

    Raises:
        DataError: The numbers of images differ, or no pair is left.

    Source:
        Wilcoxon, Biometrics Bulletin 1945; Efron, Annals of Statistics 1979 (percentile interval).
    """
    a, b = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if a.shape != b.shape:
        raise DataError(f"paired measurements must be of the same images, got {len(a)} and {len(b)}")
    differences = (a - b)[np.isfinite(a) & np.isfinite(b)]
    if not len(differences):
        raise DataError("no image has both of the measurements that are to be compared")
    random = np.random.default_rng(0)
    resampled = differences[random.integers(len(differences), size=(RESAMPLES, len(differences)))]
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    p = 1.0  # of differences that are all 0, which the test refuses
    if differences.any():
        p = float(wilcoxon(differences).pvalue) if len(differences) > 1 else float("nan")
    nonzero = differences[differences != 0]  # which the test leaves out
    sign = int(np.sign((rankdata(np.abs(nonzero)) * np.sign(nonzero)).sum()))
    return PairedDifference(len(differences), float(np.median(differences)), float(low), float(high), p, sign)
