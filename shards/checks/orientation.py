"""Two images of a sample: is one of them mirrored, turned or inverted against the other?

Edges look alike in all contrasts and hardly depend on noise once an image is small, so images are compared by the
gradients of small copies in the eight orientations that flips and quarter turns lead to. The sign follows from the grey
values. One pair alone proves little where contrasts differ much and images are noisy; `suspects` therefore judges a
pair by what is usual in its data set, and says nothing where the fields have no usual orientation (unpaired images).
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE_PX = 64
"""Height and width of the small copies that are compared."""
ORIENTATIONS = (
    "as stored",
    "turned by 90 degrees",
    "turned by 180 degrees",
    "turned by 270 degrees",
    "mirrored left-right",
    "mirrored along the diagonal",
    "mirrored top-bottom",
    "mirrored along the other diagonal",
)
"""What is done to the second image: [mirrored,] then turned counterclockwise by multiples of 90 degrees."""

BLUR_PX = 2.0
"""Standard deviation by which the small copies are blurred: it keeps edges, and little noise."""

# Measured on knees (two echoes), OCT (frame and average), underwater and camera pairs, and the noisy phantom (PD and
# PDFS): the stored orientation wins in each of 300 pairs, by 0.06 at least.
LEAST_GAIN = 0.1
"""An orientation has to fit better by so much, as the difference of Fisher's z of the two correlations, than the one
that is usual in the data set."""
LEAST_SCORE, LEAST_SHARE = 0.2, 0.7
"""It has to reach this correlation of edges, and this share of what is usual in the data set."""
LEAST_AGREEMENT, FEW, SCORE_OF_MANY = 0.6, 8, 0.25
"""Fields are paired where so large a share of FEW or more samples agrees on the orientation that fits best, and edges
usually correlate by SCORE_OF_MANY,"""
SCORE_OF_FEW = 0.5
"""or where fewer samples usually correlate by this: a few unrelated images may agree by chance."""
CERTAIN_SCORE, CERTAIN_GAIN = 0.8, 0.3
"""Enough on their own."""
INVERTED = -0.85
"""Correlation of grey values from which a pair is inverted, even if all are: contrasts do not get there."""
INVERTED_ALONE, UPRIGHT = -0.3, 0.3
"""As INVERTED, for one pair among others that usually correlate by UPRIGHT or more."""
BORDER_RANK = 0.12
"""A pair is inverted, too, where grey values correlate by less than UPRIGHT, and the border of one image is darker than
half of it by this rank, that of the other brighter: air is dark in every contrast."""


class Picture(NamedTuple):
    """What is kept of an image to compare it."""

    edges: np.ndarray
    """Square roots of gradient magnitudes, with zero mean and unit length."""
    grey: np.ndarray
    """Grey values, likewise."""
    border: float
    """Rank of the border's median among all pixels, 0 (darkest) to 1."""
    is_square: bool


class PairScore(NamedTuple):
    """How well two images fit."""

    edges: tuple[float, ...]
    """Correlation of edges in each of ORIENTATIONS; -1 where an orientation is impossible."""
    grey: float
    """Correlation of grey values in the orientation that fits best."""
    borders: tuple[float, float]

    @property
    def best(self) -> int:
        """The orientation that fits best."""
        return int(np.argmax(self.edges))

    def gain(self, orientation: int) -> float:
        """By how much it fits better than `orientation`."""
        best, other = np.arctanh(np.clip((max(self.edges), self.edges[orientation]), -0.999, 0.999))
        return float(best - other)


class Suspect(NamedTuple):
    """A pair that fits better in another way than it is stored."""

    sample: int
    orientation: int
    """One of ORIENTATIONS."""
    is_inverted: bool
    score: PairScore

    def says(self, first: str, second: str) -> str:
        """What is wrong, with the scores; `first` and `second` are the names of the fields."""
        parts = []
        if self.orientation:
            parts.append(
                f"{ORIENTATIONS[self.orientation]} (edges correlate by {self.score.edges[self.orientation]:.2f}, as "
                f"stored by {self.score.edges[0]:.2f})"
            )
        if self.is_inverted:
            parts.append(f"inverted, black for white (grey values correlate by {self.score.grey:.2f})")
        return f"{second} fits {first} better when it is {' and '.join(parts)}"


def picture(image: np.ndarray) -> Picture | None:
    """What is compared of an image (H, W) or (H, W, C); None for a constant one, or one that is too small."""
    values = image.mean(axis=2) if image.ndim == 3 else image
    if min(values.shape) < 8:
        return None
    small = gaussian_filter(_block_means(values), BLUR_PX)
    edges, grey = _unit(np.sqrt(np.hypot(*np.gradient(small)))), _unit(small)
    if edges is None or grey is None:
        return None
    frame = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    middle = np.median(frame)
    border = float((small < middle).mean() + (small == middle).mean() / 2)
    return Picture(edges, grey, border, image.shape[0] == image.shape[1])


def compare(first: Picture, second: Picture) -> PairScore | None:
    """How well two images of one sample fit; None where they differ in size so much that their copies do."""
    scores: list[float] = []
    for turned in _turns(second.edges):
        possible = turned.shape == first.edges.shape and (second.is_square or len(scores) % 2 == 0)
        scores.append(float((first.edges * turned).sum()) if possible else -1.0)
    if scores[0] == -1.0:
        return None
    turned_grey = _turns(second.grey)[int(np.argmax(scores))]
    return PairScore(tuple(scores), float((first.grey * turned_grey).sum()), (first.border, second.border))


def suspects(scores: Sequence[PairScore | None]) -> list[Suspect]:
    """The pairs that are mirrored, turned or inverted.

    Args:
        scores: For each sample of a split, how well the same two fields fit; None where they cannot be compared.
    """
    known = [score for score in scores if score is not None]
    if not known:
        return []
    usual = float(np.median([max(score.edges) for score in known]))
    usual_grey = float(np.median([score.grey for score in known]))
    are_paired, usual_orientation = _agreement(known, usual)
    found = []
    for sample, score in enumerate(scores):
        if score is None:
            continue
        best = max(score.edges)
        orientation = usual_orientation
        if are_paired and best >= max(LEAST_SCORE, LEAST_SHARE * usual) and score.gain(orientation) >= LEAST_GAIN:
            orientation = score.best
        if best >= CERTAIN_SCORE and score.gain(0) >= CERTAIN_GAIN:
            orientation = score.best
        is_inverted = (are_paired or best >= CERTAIN_SCORE) and _is_inverted(score, usual_grey)
        if orientation or is_inverted:
            found.append(Suspect(sample, orientation, is_inverted, score))
    return found


def _agreement(scores: Sequence[PairScore], usual: float) -> tuple[bool, int]:
    """Whether two fields show the same thing, as far as their edges tell, and the orientation that most agree on."""
    [(orientation, count)] = Counter(score.best for score in scores).most_common(1)
    agreement = count / len(scores)
    if len(scores) >= FEW:
        are_paired = agreement >= LEAST_AGREEMENT and usual >= SCORE_OF_MANY
    else:
        are_paired = usual >= SCORE_OF_FEW
    return are_paired, orientation if are_paired and agreement >= LEAST_AGREEMENT else 0


def _is_inverted(score: PairScore, usual_grey: float) -> bool:
    first, second = (border - 0.5 for border in score.borders)
    borders_differ = first * second < 0 and min(abs(first), abs(second)) >= BORDER_RANK
    return (
        score.grey <= INVERTED
        or (score.grey <= INVERTED_ALONE and usual_grey >= UPRIGHT)
        or (score.grey < UPRIGHT and borders_differ)
    )


def _block_means(values: np.ndarray) -> np.ndarray:
    """Magnitudes of means over blocks: (SIDE_PX, SIDE_PX), or smaller where the image is."""
    rows, columns = (np.linspace(0, side, min(SIDE_PX, side) + 1).astype(int) for side in values.shape)
    kept = values.astype(np.complex128 if values.dtype.kind == "c" else np.float64)
    sums = np.add.reduceat(np.add.reduceat(kept, rows[:-1], axis=0), columns[:-1], axis=1)
    means: np.ndarray = sums / np.outer(np.diff(rows), np.diff(columns))
    return np.abs(means) if values.dtype.kind == "c" else means


def _unit(values: np.ndarray) -> np.ndarray | None:
    """Zero mean and unit length: products of these are correlations. None for constants."""
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 0 else None


def _turns(values: np.ndarray) -> list[np.ndarray]:
    """The eight orientations, in the order of ORIENTATIONS."""
    return [np.rot90(part, turns) for part in (values, values[:, ::-1]) for turns in range(4)]
