"""A comparison as Markdown, for terminals and files."""

import math
from collections.abc import Sequence
from itertools import permutations

from quell.launch.comparing.comparison import SIGNIFICANT, Pair, Ranking
from quell.launch.differences.figures import figure, title
from quell.launch.differences.intervals import FEWEST_TO_RESAMPLE
from quell.launch.evaluation.report import markdown_table


def markdown(rankings: Sequence[Ranking], reference: int | None, notes: Sequence[str]) -> str:
    """The whole comparison.

    Args:
        rankings: One per metric.
        reference: Position of the method that all are compared with; None is the best of each metric.
        notes: Sentences about what was measured.
    """
    sections = [f"# Comparison\n\n{' '.join(notes)}\n"]
    sections += [_section(ranking, reference) for ranking in rankings]
    return "\n".join(sections)


def p_text(p: float) -> str:
    """A p value as tables show it."""
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(pair: Pair) -> str:
    """Whether the first method of a pair is better than the second, in words."""
    if not pair.is_distinguishable:
        return "not distinguishable"
    return "better" if pair.favours > 0 else "worse"


def _section(ranking: Ranking, reference: int | None) -> str:
    """The heading, table and remarks of one metric."""
    metric, shown = ranking.metric, ranking.places[0].method if reference is None else reference
    name = ranking.methods[shown].name
    checkpoints = {method.checkpoint for method in ranking.methods if method.is_trained}
    has_seeds = any(len(method.seeds) > 1 for method in ranking.methods)
    rows: list[dict[str, object]] = []
    for number, place in enumerate(ranking.places, 1):
        method = ranking.methods[place.method]
        row: dict[str, object] = {"rank": str(number), "method": method.name}
        if has_seeds:
            row["seeds"] = str(len(method.seeds)) if method.seeds else "-"
        if len(checkpoints) > 1:
            row["checkpoint"] = method.checkpoint or "-"
        row[title(metric)] = _spread(metric, place.mean, place.std)
        pair = ranking.pair(place.method, shown)
        row |= _pair_cells(ranking, pair) if pair else dict.fromkeys(_pair_columns(ranking))
        row["not distinguishable from rank"] = ", ".join(map(str, place.ties)) or "-"
        rows.append(row)
    heading = f"## {title(metric)}: {ranking.direction} is better\n\n"
    return f"{heading}{markdown_table(rows)}\n{' '.join(_remarks(ranking, name))}\n"


def _pair_columns(ranking: Ranking) -> tuple[str, ...]:
    return "difference", "95 % interval", "median", f"{ranking.units.word} better", "p (Holm)"


def _pair_cells(ranking: Ranking, pair: Pair) -> dict[str, object]:
    metric, interval = ranking.metric, pair.interval
    low, high = (figure(metric, value, signed=True) for value in (interval.low, interval.high))
    better, _worse = ranking.gains(pair)
    cells = (
        figure(metric, interval.mean, signed=True),
        f"{low} to {high}" if math.isfinite(interval.low) else "-",
        figure(metric, pair.median, signed=True),
        f"{better} of {ranking.units.count}",
        p_text(pair.p_holm),
    )
    return dict(zip(_pair_columns(ranking), cells, strict=True))


def _spread(metric: str, mean: float, std: float) -> str:
    return figure(metric, mean) + (f" ± {figure(metric, std)}" if std else "")


def _remarks(ranking: Ranking, reference: str) -> list[str]:
    """Sentences below a table: what its columns are, and what they cannot say."""
    count, word, tests = ranking.units.count, ranking.units.word, len(ranking.pairs)
    kinds = sorted({pair.test for pair in ranking.pairs})
    intervals = sorted({pair.interval.method for pair in ranking.pairs})
    sentences = [
        f"Mean ± standard deviation, mean and median difference are over {count} {word}; differences are to "
        f"{reference}. Intervals: {'; '.join(intervals)}. Tests: {'; '.join(kinds)}; p corrected for "
        f"{tests} {'test' if tests == 1 else 'tests'} (Holm)."
    ]
    if ranking.direction == "nearer to 1":
        sentences.append(f"Differences are of |{ranking.metric} - 1|, so a negative one is better.")
    return [*sentences, *omissions(ranking), *_contradictions(ranking), *_limits(ranking)]


def omissions(ranking: Ranking) -> list[str]:
    """Sentences about the images that the numbers are not of."""
    sentences = []
    for method, failed in zip(ranking.methods, ranking.failures, strict=True):
        if failed:
            sentences.append(
                f"{method.name} failed on {len(failed)} images ({_listed(failed)}), where its values are infinitely "
                "bad: the numbers are of the others, it is ranked behind methods that failed on fewer, and it is not "
                "called better than any."
            )
    if ranking.left_out:
        count, listed = len(ranking.left_out), _listed(ranking.left_out)
        sentences.append(f"Left out: {count} images without a finite value of every method ({listed}).")
    return sentences


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")


def _contradictions(ranking: Ranking) -> list[str]:
    """A sentence for each pair that differs in ranks but not in the mean, and for ranks that leave images out."""
    sentences = []
    for pair in ranking.pairs:
        first, second = (ranking.methods[i].name for i in (pair.first, pair.second))
        if pair.is_significant and not pair.agrees_with_mean:
            counts = "{} to {}".format(*ranking.gains(pair))
            sentences.append(
                f"{first} and {second} are not distinguishable although the test of ranks finds a difference "
                f"({counts} {ranking.units.word} better): it disagrees with the mean difference, whose interval "
                "contains 0 or lies on the other side. Look at the few images with large differences."
            )
        if equal := int((pair.differences == 0).sum()):
            sentences.append(
                f"{first} and {second} are equal up to rounding in {equal} {ranking.units.word}, which signed ranks "
                "leave out."
            )
    return sentences


def _limits(ranking: Ranking) -> list[str]:
    """What the numbers of units, tests and seeds make impossible to know."""
    sentences = []
    count, word, tests = ranking.units.count, ranking.units.word, len(ranking.pairs)
    least = 2 / 2**count
    uses_ranks = any(pair.test.startswith("Wilcoxon") for pair in ranking.pairs)
    if uses_ranks and count < FEWEST_TO_RESAMPLE:
        sentences.append(
            f"With {count} {word} no signed-rank test can reach 5 %: the smallest p is {least:.2g}; at least 6 are "
            "needed."
        )
    elif uses_ranks and least * tests > SIGNIFICANT:
        sentences.append(
            f"With {count} {word} and {tests} tests, the best pair's corrected p is {least * tests:.2g} or more: "
            "compare fewer methods, or all with one (--against)."
        )
    single = [method.name for method in ranking.methods if len(method.seeds) == 1]
    if single:
        sentences.append(
            f"Trained with one seed only: {', '.join(single)}. What is said of these is about the trained networks, "
            "not about their methods: another seed may change it."
        )
    lent = [
        (methods[0], methods[1])
        for pair in ranking.pairs
        for methods in permutations([ranking.methods[pair.first], ranking.methods[pair.second]])
        if len(methods[0].seeds) == 1 < len(methods[1].seeds)
    ]
    sentences += [
        f"{one.name} is taken to vary between seeds as much as {other.name}, of which there are {len(other.seeds)}: "
        "with few seeds, only large differences can be found."
        for one, other in lent
    ]
    shares = [pair.seed_share for pair in ranking.pairs if pair.seed_share is not None]
    if shares and max(shares) > 0.5:
        sentences.append(
            f"The seeds cause up to {min(max(shares), 0.99):.0%} of the variance of a difference: more seeds would "
            "narrow the intervals, more images would not."
        )
    return sentences
