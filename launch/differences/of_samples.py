"""The difference of two measurements of the same samples in one sentence, by what of them is independent."""

from collections.abc import Mapping, Sequence

import numpy as np

from quell.launch.differences.paired_statistics import paired_difference
from quell.launch.differences.units import units_of

Pairs = Sequence[tuple[float, float]]
"""The two values of each image that was restored of a sample, such as its contrasts."""


def difference_in_words(metric: str, samples: Mapping[str, Pairs], groups: Mapping[str, str]) -> str:
    """How much higher the first of two measurements is; empty where fewer than two samples have both.

    A sample counts once, as the mean over its images, and so does a group of samples.

    Args:
        metric: What was measured; it decides unit and digits.
        samples: Sample -> its values.
        groups: Sample -> patient, subject or scene; samples may be missing.
    """
    keys = [key for key, pairs in samples.items() if len(pairs)]
    means_2N = np.array([np.mean(samples[key], axis=0) for key in keys]).reshape(-1, 2).T
    usable = np.isfinite(means_2N).all(axis=0)
    if usable.sum() < 2:
        return ""
    units = units_of(keys, {key: groups[key] for key in keys if key in groups}).subset(usable)
    first, second = units.means(means_2N[:, usable])
    left_out = int((~usable).sum())
    without = f"; {left_out} images without finite values of both are left out" if left_out else ""
    return paired_difference(first, second).words(metric, units.word) + without
