"""Which PD volume belongs with which PDFS volume, how sure that is, and how their slices line up.

fastMRI does not say which scans are of one knee. Edges look alike in both contrasts where grey values do not, so
volumes are compared by gradients of small slices; every pair gets a score that a person can review.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment

from configs.errors import DataError
from shards.building import card
from shards.sources.common import volumes as _volumes
from shards.sources.common.volumes import Volume

SIDE = 48
MARGIN = 0.02
"""A pair is doubtful too when another partner comes this close to its score."""
MOST_OFFSET = 6
"""Slices by which one volume may start before the other."""
FEWEST = 3
"""Slices that must overlap."""


@dataclass(frozen=True)
class Pair:
    """Two volumes taken for one knee."""

    pd: Volume
    pdfs: Volume
    score: float
    """Mean correlation of edges over the slices that line up, -1 to 1."""
    runner_up: float
    """The best score of the PD volume with another PDFS volume; NaN where none was compared."""
    offset: int
    """Slice i of PD lines up with slice i + offset of PDFS."""

    def doubtful(self, least: float) -> bool:
        """Whether a person should look at it: edges that hardly agree, or another partner nearly as good."""
        return self.score < least or self.runner_up > self.score - MARGIN

    @property
    def slices(self) -> range:
        """PD slices that have a partner."""
        return range(max(0, -self.offset), min(self.pd.slices, self.pdfs.slices - self.offset))


def by_list(path: Path, volumes: Sequence[Volume]) -> list[Pair]:
    """Pairs of a CSV `pd,pdfs[,score]` of file names without .h5. Raises DataError for a name that is not there."""
    stems = {volume.path.stem: volume for volume in volumes}
    pairs = []
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', 'not UTF-8 text')})") from error
    for number, row in enumerate(rows, 1):
        names = [Path(cell.strip()).name.removesuffix(".h5") for cell in row[:2]]
        if number == 1 and names[:1] in (["pd"], ["pd_stem"]):
            continue
        if len(names) < 2 or any(name not in stems for name in names):
            raise DataError(f"{path}: line {number} ({','.join(row)}): expected the names of two volumes of the input")
        pairs.append(_pair(stems[names[0]], stems[names[1]]))
    return pairs


def by_patient(volumes: Sequence[Volume]) -> list[Pair]:
    """Each PD volume with the most similar PDFS volume of the same patient."""
    patients = sorted({volume.patient for volume in volumes})
    return [
        pair
        for patient in patients
        for pair in by_similarity([volume for volume in volumes if volume.patient == patient])
    ]


def by_similarity(volumes: Sequence[Volume]) -> list[Pair]:
    """The assignment of PD to PDFS volumes with the highest sum of scores."""
    pds, others = ([volume for volume in volumes if volume.contrast == name] for name in ("pd", "pdfs"))
    if not pds or not others:
        return []
    edges = {volume.path: _edges(volume) for volume in (*pds, *others)}
    table = np.array([[_aligned(edges[pd.path], edges[other.path])[0] for other in others] for pd in pds])
    rows, columns = linear_sum_assignment(-table)
    pairs = []
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        rest = np.delete(table[row], column)
        score, offset = _aligned(edges[pds[row].path], edges[others[column].path])
        pairs.append(Pair(pds[row], others[column], score, float(rest.max()) if rest.size else float("nan"), offset))
    return pairs


def report(output: Path, pairs: Sequence[Pair], volumes: Sequence[Volume], least: float) -> None:
    """pairing.csv (can be edited and given back), pairing.json with volumes left over, and the sheet pairing.png."""
    output.mkdir(parents=True, exist_ok=True)
    used = {volume.path for pair in pairs for volume in (pair.pd, pair.pdfs)}
    rows = [
        {
            "pd": pair.pd.path.stem,
            "pdfs": pair.pdfs.path.stem,
            "score": round(pair.score, 4),
            "runner_up": None if np.isnan(pair.runner_up) else round(pair.runner_up, 4),
            "offset": pair.offset,
            "slices": len(pair.slices),
            "doubtful": pair.doubtful(least),
        }
        for pair in pairs
    ]
    lines = ["pd,pdfs,score", *(f"{row['pd']},{row['pdfs']},{row['score']}" for row in rows)]
    (output / "pairing.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    left = sorted(volume.path.stem for volume in volumes if volume.path not in used)
    notes = {"least_score": least, "pairs": rows, "left_over": left}
    (output / "pairing.json").write_text(json.dumps(notes, indent=1) + "\n", encoding="utf-8")
    if pairs:
        _sheet(sorted(pairs, key=lambda pair: pair.score)[:24]).save(output / "pairing.png")


def _pair(pd: Volume, pdfs: Volume) -> Pair:
    score, offset = _aligned(_edges(pd), _edges(pdfs))
    return Pair(pd, pdfs, score, float("nan"), offset)


def _edges(volume: Volume) -> np.ndarray:
    """Gradients of every slice on a small grid, each of zero mean and unit length, (slices, SIDE * SIDE)."""
    images = _volumes.magnitude(volume.path)
    rows, columns = (np.linspace(0, side, SIDE + 1).astype(int)[:-1] for side in images.shape[1:])
    small = np.add.reduceat(np.add.reduceat(images, rows, axis=1), columns, axis=2).astype(np.float64)
    small = gaussian_filter(np.sqrt(small), (0, 0.7, 0.7))
    gradient = np.hypot(np.gradient(small, axis=1), np.gradient(small, axis=2)).reshape(len(images), -1)
    gradient -= gradient.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(gradient, axis=1, keepdims=True)
    return gradient / np.where(norms > 0, norms, 1.0)


def _aligned(a: np.ndarray, b: np.ndarray) -> tuple[float, int]:
    """The best mean correlation of slices that line up, and the offset at which it is reached."""
    table = a @ b.T
    scores = {}
    for offset in sorted(range(-MOST_OFFSET, MOST_OFFSET + 1), key=abs):
        diagonal = np.diagonal(table, offset)
        if len(diagonal) >= min(FEWEST, len(a), len(b)):
            scores[offset] = float(diagonal.mean())
    best = max(scores, key=lambda offset: scores[offset])
    return scores[best], best


def _sheet(pairs: Sequence[Pair]) -> Image.Image:
    """The middle slices of the least similar pairs, PD left and PDFS right."""
    px = card.THUMB_PX
    sheet = Image.new("RGB", (px * 2, px * len(pairs)))
    for row, pair in enumerate(pairs):
        middle = pair.slices[len(pair.slices) // 2]
        for column, (volume, number) in enumerate(((pair.pd, middle), (pair.pdfs, middle + pair.offset))):
            image = _volumes.magnitude(volume.path, [number])[0]
            sheet.paste(card.thumbnail(image, float(np.percentile(image, 99.5)) or 1.0), (column * px, row * px))
    return sheet
