"""Pairing PD and PDFS volumes: which two show the same knee, how certain that is, and how their slices line up.

fastMRI does not say which scans belong together. Edges look alike in both contrasts even where grey values do not, so
volumes are compared by the gradients of downsampled slices. Every pair has a score, for a person to review.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from quell.configs.errors import DataError
from quell.shards.building.text_files import read_lines
from quell.shards.image_files.fastmri import FastmriVolume, read_magnitude

SIDE = 48
"""Slices are compared on a grid with this side, in pixels."""
MARGIN = 0.02
"""A pair is also doubtful if another partner scores within this of it."""
MAX_OFFSET = 6
"""Slices by which one volume may begin before the other."""
MIN_OVERLAP = 3
"""Slices that must line up."""


@dataclass(frozen=True)
class VolumePair:
    """Two volumes that are taken to show the same knee."""

    pd: FastmriVolume
    pdfs: FastmriVolume
    score: float
    """Mean correlation of edges over the slices that line up, -1 to 1."""
    runner_up: float
    """The best score of the PD volume with any other PDFS volume; NaN where no other was compared."""
    offset: int
    """Slice i of PD lines up with slice i + offset of PDFS."""

    def is_doubtful(self, least_score: float) -> bool:
        """Whether a person should look at the pair: its edges hardly agree, or another partner is nearly as good."""
        return self.score < least_score or self.runner_up > self.score - MARGIN

    @property
    def slices(self) -> range:
        """The PD slices that have a partner."""
        return range(max(0, -self.offset), min(self.pd.slices, self.pdfs.slices - self.offset))


def pairs_from_csv(path: Path, volumes: Sequence[FastmriVolume]) -> list[VolumePair]:
    """Read pairs from lines `pd,pdfs[,score]` of file names. Raises DataError for a name that is not in `volumes`."""
    by_stem = {volume.path.stem: volume for volume in volumes}
    pairs = []
    for number, row in enumerate(csv.reader(read_lines(path)), 1):
        names = [Path(cell.strip()).name.removesuffix(".h5") for cell in row[:2]]
        if number == 1 and names[:1] in (["pd"], ["pd_stem"]):
            continue
        if len(names) < 2 or any(name not in by_stem for name in names):
            raise DataError(f"{path}: line {number} ({','.join(row)}): expected the names of two volumes of the input")
        pd, pdfs = (by_stem[name] for name in names)
        score, offset = best_alignment(edge_features(pd), edge_features(pdfs))
        pairs.append(VolumePair(pd, pdfs, score, math.nan, offset))
    return pairs


def pairs_by_patient(volumes: Sequence[FastmriVolume]) -> list[VolumePair]:
    """Pair by similarity, but only volumes of the same patient."""
    patients = sorted({volume.patient for volume in volumes})
    return [
        pair
        for patient in patients
        for pair in pairs_by_similarity([volume for volume in volumes if volume.patient == patient])
    ]


def pairs_by_similarity(volumes: Sequence[FastmriVolume]) -> list[VolumePair]:
    """The one-to-one assignment of PD to PDFS volumes with the highest sum of scores."""
    pds, pdfss = ([volume for volume in volumes if volume.contrast == name] for name in ("pd", "pdfs"))
    if not pds or not pdfss:
        return []
    edges = {volume.path: edge_features(volume) for volume in (*pds, *pdfss)}
    scores = np.array([[best_alignment(edges[pd.path], edges[pdfs.path])[0] for pdfs in pdfss] for pd in pds])
    rows, columns = linear_sum_assignment(-scores)
    pairs = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        others = np.delete(scores[row], column)
        score, offset = best_alignment(edges[pds[row].path], edges[pdfss[column].path])
        runner_up = float(others.max()) if others.size else math.nan
        pairs.append(VolumePair(pds[row], pdfss[column], score, runner_up, offset))
    return pairs


def edge_features(volume: FastmriVolume) -> np.ndarray:
    """Gradient magnitudes of every downsampled slice, each with zero mean and unit length: (slices, SIDE * SIDE)."""
    images = read_magnitude(volume.path)
    rows, columns = (np.linspace(0, side, SIDE + 1).astype(int)[:-1] for side in images.shape[1:])
    small = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2).astype(np.float64)
    small = gaussian_filter(np.sqrt(small), (0, 0.7, 0.7))
    gradient = np.hypot(np.gradient(small, axis=1), np.gradient(small, axis=2)).reshape(len(images), -1)
    gradient -= gradient.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(gradient, axis=1, keepdims=True)
    return gradient / np.where(norms > 0, norms, 1.0)


def best_alignment(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """The highest mean correlation of slices that line up, and the offset at which it is reached.

    Slice i of `a` then lines up with slice i + offset of `b`; both are `edge_features`.
    """
    correlations = a @ b.T
    scores = {}
    for offset in sorted(range(-MAX_OFFSET, MAX_OFFSET + 1), key=abs):  # of equal scores, the smallest offset wins
        diagonal = np.diagonal(correlations, offset)
        if len(diagonal) >= min(MIN_OVERLAP, len(a), len(b)):
            scores[offset] = float(diagonal.mean())
    best = max(scores, key=lambda offset: scores[offset])
    return scores[best], best
