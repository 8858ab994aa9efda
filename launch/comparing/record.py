"""A comparison as data, for programs."""

from collections.abc import Sequence

from quell.launch.comparing.comparison import SIGNIFICANT, Ranking
from quell.launch.comparing.methods import Method
from quell.launch.comparing.reports import describe
from quell.launch.comparing.text import verdict


def as_json(rankings: Sequence[Ranking], members: Sequence[str], notes: Sequence[str]) -> dict[str, object]:
    """Everything that was compared and what came out, with the difference of every unit."""
    first = rankings[0]
    return {
        "members": list(members),
        "samples": list(first.units.keys),
        "units": first.units.word,
        "level": SIGNIFICANT,
        "methods": [_method(method) for method in first.methods],
        "notes": list(notes),
        "metrics": {ranking.metric: _metric(ranking) for ranking in rankings},
    }


def _method(method: Method) -> dict[str, object]:
    return {
        "name": method.name,
        "baseline": method.baseline,
        "seeds": list(method.seeds),
        "reports": [describe(report) for report in method.reports],
    }


def _metric(ranking: Ranking) -> dict[str, object]:
    names = [method.name for method in ranking.methods]
    return {
        "better": ranking.direction,
        "left_out": list(ranking.left_out),
        "failed": {name: list(keys) for name, keys in zip(names, ranking.failures, strict=True) if keys},
        "ranking": [
            {
                "rank": number,
                "method": names[place.method],
                "mean": place.mean,
                "std": place.std,
                "seed_std": place.seed_std,
                "not_distinguishable_from_rank": list(place.ties),
            }
            for number, place in enumerate(ranking.places, 1)
        ],
        "pairs": [
            {
                "first": names[pair.first],
                "second": names[pair.second],
                "difference": pair.interval.mean,
                "low": pair.interval.low,
                "high": pair.interval.high,
                "interval": pair.interval.method,
                "median": pair.median,
                "first_better": ranking.gains(pair)[0],
                "second_better": ranking.gains(pair)[1],
                "test": pair.test,
                "p": pair.p,
                "p_holm": pair.p_holm,
                "p_wilcoxon": pair.wilcoxon_p,
                "seed_share": pair.seed_share,
                "first_is": verdict(pair),
                "differences": dict(zip(ranking.units.names, pair.differences.tolist(), strict=True)),
            }
            for pair in ranking.pairs
        ],
        "values": {
            name: {key: list(values[:, i]) for i, key in enumerate(ranking.keys)}
            for name, values in zip(names, ranking.values, strict=True)
        },
    }
