"""How far two OCT frames lie apart along depth, and the part both show."""

import numpy as np
from scipy.ndimage import gaussian_filter

BAND_PX = (1.5, 8.0)
"""Layers lie between speckle and shading: compared is a Gaussian of the first width less one of the second."""
COLUMNS = 4
"""Neighbouring columns averaged first: layers run along them, speckle does not."""
LEAST_GAIN = 0.01
"""A shift must raise the correlation by this much, else the frame stays where it is."""


def shift_rows(moving: np.ndarray, fixed: np.ndarray, most: int) -> int:
    """Rows by which `fixed` lies deeper than `moving`, at most `most`: where their layers correlate best."""
    a, b = (_layers(image.astype(np.float64)) for image in (moving, fixed))
    scores = {rows: _correlation(*_overlap(a, b, rows)) for rows in range(-most, most + 1)}
    best = max(scores, key=lambda rows: (scores[rows], -abs(rows)))
    return best if scores[best] > scores[0] + LEAST_GAIN else 0


def align(fields: dict[str, np.ndarray], most: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The fields cut to the rows all of them show once each frame is moved onto `clean`, and each frame's shift.

    No pixel is interpolated or invented: frames are cut at top and bottom.
    """
    clean = fields["clean"]
    rows = {name: shift_rows(image, clean, most) for name, image in fields.items() if name != "clean"}
    first, last = max(0, *rows.values()), min(0, *rows.values())
    height = clean.shape[0] - first + last
    cut = {name: image[first - rows.get(name, 0) :][:height] for name, image in fields.items()}
    assert all(image.shape[0] == height for image in cut.values())
    return cut, rows


def _layers(image: np.ndarray) -> np.ndarray:
    columns = np.arange(0, image.shape[1], COLUMNS)
    image = np.add.reduceat(image, columns, axis=1) / COLUMNS
    fine, coarse = (gaussian_filter(image, (width, width / COLUMNS)) for width in BAND_PX)
    return fine - coarse


def _overlap(a: np.ndarray, b: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    if rows >= 0:
        return a[: a.shape[0] - rows], b[rows:]
    return a[-rows:], b[: b.shape[0] + rows]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-12))
