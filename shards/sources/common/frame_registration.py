"""Registering OCT frames along depth: by how many rows two frames are shifted, and the part that both show."""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

BAND_PX = (1.5, 8.0)
"""Retinal layers are coarser than speckle and finer than shading: frames are compared after a band-pass filter, the
difference of Gaussians of these two widths."""
COLUMNS = 4
"""Columns averaged first: layers run along them, speckle does not."""
LEAST_GAIN = 0.01
"""A shift must raise the correlation by at least this much, or the frame is not moved."""


def depth_shift(moving: np.ndarray, fixed: np.ndarray, max_rows: int) -> int:
    """Find the shift at which the layers of two frames correlate best.

    Args:
        moving: A frame (H, W).
        fixed: Another frame of the same shape.
        max_rows: The largest shift to consider in either direction.

    Returns:
        How many rows deeper `fixed` is than `moving`; 0 where no shift is clearly better.
    """
    a, b = (_layers(image.astype(np.float64)) for image in (moving, fixed))
    scores = {rows: _correlation(*_overlap(a, b, rows)) for rows in range(-max_rows, max_rows + 1)}
    best = max(scores, key=lambda rows: (scores[rows], -abs(rows)))
    return best if scores[best] > scores[0] + LEAST_GAIN else 0


def align(fields: Mapping[str, np.ndarray], max_rows: int) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Shift every field along depth onto `clean`, and crop all to the rows that every one of them shows.

    No pixel is interpolated or filled in: rows are only cropped at the top and at the bottom.

    Args:
        fields: Field -> image (H, W), among them `clean`.
        max_rows: The largest shift to consider in either direction.

    Returns:
        The cropped fields, and the shift in rows of each field other than `clean`.
    """
    clean = fields["clean"]
    shifts = {name: depth_shift(image, clean, max_rows) for name, image in fields.items() if name != "clean"}
    first, last = max(0, *shifts.values()), min(0, *shifts.values())
    height = clean.shape[0] - first + last
    cropped = {name: image[first - shifts.get(name, 0) :][:height] for name, image in fields.items()}
    assert all(image.shape[0] == height for image in cropped.values())
    return cropped, shifts


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
