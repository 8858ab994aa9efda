"""How often intervals and tests of `quell compare` are right: simulated differences with a known truth.

  python -m benchmarks.quality.intervals

Prints the part of 95 % intervals that cover the true mean difference, for four kinds of intervals, and the part of
tests of two equal methods with several seeds that find a difference at 5 %.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from quell.launch.differences.intervals import mean_interval
from quell.launch.differences.seeds import seed_test
from quell.launch.evaluation.report import markdown_table

ROUNDS = 1000
UNITS = (6, 12, 24)
TRUTH = 0.3
SEEDS = ((2, 2), (3, 3), (5, 5), (2, 1), (3, 1), (5, 1), (5, 2))
"""Networks of the first and of the second method; a single one is given the spread of the others."""

Values = NDArray[np.float64]
Ends = tuple[float, float]


def main() -> None:
    """Print both tables."""
    random = np.random.default_rng(0)
    kinds: dict[str, Callable[[int], Values]] = {
        "normal": lambda count: random.normal(TRUTH, 1, count),
        "skewed": lambda count: random.gamma(1, 1, count) - 1 + TRUTH,
    }
    print(markdown_table([coverage(name, draw, count) for name, draw in kinds.items() for count in UNITS]))
    print(markdown_table([false_positives(random, seeds, spread) for seeds in SEEDS for spread in (0.0, 0.3, 1.0)]))


def coverage(name: str, draw: Callable[[int], Values], count: int) -> dict[str, object]:
    """How often each kind of interval covers the truth."""
    hits = dict.fromkeys(("percentile", "BCa", "Student's t", "studentized"), 0)
    for _ in range(ROUNDS):
        drawn = draw(count)
        ours = mean_interval(drawn)
        error = stats.t.ppf(0.975, count - 1) * drawn.std(ddof=1) / count**0.5
        ends: dict[str, Ends] = {
            "studentized": (ours.low, ours.high),
            "Student's t": (drawn.mean() - error, drawn.mean() + error),
        }
        for title, method in (("percentile", "percentile"), ("BCa", "BCa")):
            found = stats.bootstrap((drawn,), np.mean, n_resamples=1000, method=method, random_state=0)
            ends[title] = tuple(found.confidence_interval)
        for title, (low, high) in ends.items():
            hits[title] += low <= TRUTH <= high
    return {"differences": name, "images": str(count), **{title: hit / ROUNDS for title, hit in hits.items()}}


def false_positives(
    random: np.random.Generator, seeds: tuple[int, int], spread: float, units: int = 12
) -> dict[str, object]:
    """How often two equal methods differ at 5 %, with their seeds allowed for, and with the images alone."""
    both, alone = 0, 0
    for _ in range(ROUNDS):
        images = random.normal(30, 3, units)
        values = [
            images + random.normal(0, 0.5, units) + random.normal(0, spread, (count, 1))
            + random.normal(0, 0.3, (count, units))
            for count in seeds
        ]  # fmt: skip
        both += seed_test(values[0], values[1], trained=(True, True)).p < 0.05
        alone += stats.wilcoxon(values[0].mean(axis=0) - values[1].mean(axis=0)).pvalue < 0.05
    return {
        "seeds": " and ".join(map(str, seeds)),
        "spread of seeds": f"{spread:g}",
        "seeds and images": both / ROUNDS,
        "images alone": alone / ROUNDS,
    }


if __name__ == "__main__":
    main()
