"""Pairs of a data set that are mirrored, turned or inverted: which fields are compared, and what is reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from quell.shards.checks.orientation import PairScore, Picture, Suspect, compare, picture, suspects

MAX_SINGLE = 3
"""More samples whose pairs are turned in the same way are reported together."""
COPIES = ("_clean", "_second", "_other")
"""Suffixes of fields that show the same as the field without it."""

FieldPair = tuple[str, str]


@dataclass
class PairScores:
    """How well the fields of each sample of a split fit each other."""

    pairs: list[FieldPair]
    keys: list[str] = field(default_factory=list)
    scores: dict[FieldPair, list[PairScore | None]] = field(default_factory=dict)

    @classmethod
    def of_fields(cls, fields: Sequence[str]) -> "PairScores":
        """The pairs to compare: every field with the noisy or first one, and copies with what they are copies of."""
        first = anchor(fields)
        pairs = [(first, name) for name in fields if name != first]
        pairs += [
            (name.removesuffix(suffix), name)
            for name in fields
            for suffix in COPIES
            if name.endswith(suffix) and name.removesuffix(suffix) in set(fields) - {first}
        ]
        return cls(pairs, scores={pair: [] for pair in pairs})

    def add(self, key: str, images: Mapping[str, np.ndarray]) -> None:
        """Compare the images of the next sample; fields without a usable image are left out."""
        self.keys.append(key)
        pictures: dict[str, Picture | None] = {name: picture(image) for name, image in images.items()}
        for pair in self.pairs:
            first, second = (pictures.get(name) for name in pair)
            score = compare(first, second) if first is not None and second is not None else None
            self.scores[pair].append(score)


@dataclass(frozen=True)
class TurnedPair:
    """What is reported of a sample, or of many that are turned in the same way."""

    split: str
    key: str
    is_turned: bool
    """Or only inverted."""
    says: str


def turned_pairs(splits: Mapping[str, PairScores]) -> tuple[list[TurnedPair], set[tuple[str, str]]]:
    """The pairs of a data set that are mirrored, turned or inverted.

    Args:
        splits: Split -> the scores of its samples. The splits are judged together, since few pairs prove little.

    Returns:
        What is to be reported, and (split, key) of all samples concerned.
    """
    places = [(split, key) for split, scores in splits.items() for key in scores.keys]
    by_sample: dict[int, dict[FieldPair, Suspect]] = {}
    for pair in dict.fromkeys(pair for scores in splits.values() for pair in scores.pairs):
        joined = [score for of_split in splits.values() for score in of_split.scores.get(pair, _nothing(of_split))]
        for suspect in suspects(joined):
            by_sample.setdefault(suspect.sample, {})[pair] = suspect
    by_kind: dict[tuple[tuple[FieldPair, int, bool], ...], list[int]] = {}
    for sample, found in sorted(by_sample.items()):
        kind = tuple((pair, suspect.orientation, suspect.is_inverted) for pair, suspect in found.items())
        by_kind.setdefault(kind, []).append(sample)
    reports = []
    for kind, samples in by_kind.items():
        shown = samples if len(samples) <= MAX_SINGLE else samples[:1]
        more = f"; so do {len(samples) - 1} more samples" if len(shown) < len(samples) else ""
        for sample in shown:
            says = "; ".join(suspect.says(*pair) for pair, suspect in by_sample[sample].items()) + more
            reports.append(TurnedPair(*places[sample], any(turn for _, turn, _ in kind), says))
    return reports, {places[sample] for sample in by_sample}


def anchor(fields: Sequence[str]) -> str:
    """The field that the others are compared with."""
    return "noisy" if "noisy" in fields else fields[0]


def _nothing(scores: PairScores) -> list[PairScore | None]:
    """No scores, for a split without one of the fields."""
    return [None] * len(scores.keys)
