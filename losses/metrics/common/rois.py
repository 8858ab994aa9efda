"""Regions of interest: homogeneous pieces of background and foreground, from a file or found in the image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from configs.errors import DataError
from losses.metrics.common.images import Image, checked

FOREGROUNDS = 5
SMALLEST_PX = 8


class Box(NamedTuple):
    """A rectangle of pixels."""

    row: int
    column: int
    height: int
    width: int

    def of(self, image: Image) -> Image:
        """The pixels inside; DataError when it is empty or reaches out of the image."""
        fits = min(self.row, self.column) >= 0 and min(self.height, self.width) > 0
        if not fits or self.row + self.height > image.shape[0] or self.column + self.width > image.shape[1]:
            raise DataError(
                f"the region (row, column, height, width) = {tuple(self)} is empty or reaches out of an image of "
                f"{image.shape[0]} x {image.shape[1]} pixels"
            )
        return image[self.row : self.row + self.height, self.column : self.column + self.width]


@dataclass(frozen=True)
class Rois:
    """Where a metric looks: at least one region each."""

    background: tuple[Box, ...]
    foreground: tuple[Box, ...]

    @classmethod
    def from_file(cls, path: Path) -> "Rois":
        """Read `{"background": [[row, column, height, width], ...], "foreground": [...]}`; DataError if it is not."""
        try:
            content = json.loads(path.read_text())
            found = {key: tuple(Box(*map(int, box)) for box in content[key]) for key in ("background", "foreground")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{path}: expected {{"background": [[row, column, height, width], ...], "foreground": [...]}} ({error})'
            ) from error
        if not all(found.values()):
            raise DataError(f"{path}: needs at least one background and one foreground region")
        return cls(**found)


def regions(restored: NDArray[np.generic], clean: NDArray[np.generic] | None, rois: Rois | None) -> Rois:
    """The regions given, else those found in the clean image, else in the restored one.

    Only regions from a file or from the same clean image make two restorations comparable.
    """
    return rois or automatic(checked(restored if clean is None else clean, "reference"))


def automatic(reference: Image) -> Rois:
    """One background and up to five foreground boxes, a sixteenth of the shorter side (8 px at least) square.

    Background: of the boxes whose mean is in the darkest quarter, the one of least standard deviation. Foreground: of
    those in the brightest quarter, the ones of least standard deviation over mean that do not overlap. Boxes without
    any variation (masked or padded parts) are passed over. DataError when the image has none of either kind.
    """
    image = grey(reference)
    side = max(SMALLEST_PX, min(image.shape) // 16)
    if min(image.shape) < 2 * side:
        raise DataError(f"an image of {image.shape} is too small to find regions of {side} px in; give them in a file")
    window = slice(side // 2, side // 2 + 1 - side)
    mean = uniform_filter(image, side)[window, window]
    variance = uniform_filter(image**2, side)[window, window] - mean**2
    spread = np.sqrt(np.maximum(variance, 0))
    varied = spread > 1e-6 * (image.max() - image.min())
    dark, bright = np.percentile(mean, (25, 75))
    background = _calmest(np.where(varied & (mean <= dark), spread, np.inf), side, 1)
    relative = np.divide(spread, mean, out=np.full_like(mean, np.inf), where=varied & (mean >= bright) & (mean > 0))
    foreground = _calmest(relative, side, FOREGROUNDS)
    if not background or not foreground:
        raise DataError("no varied dark and bright regions found in the image; give regions in a file")
    return Rois(background, foreground)


def grey(image: Image) -> Image:
    """The mean over channels, (H, W)."""
    return image if image.ndim == 2 else np.asarray(image.mean(axis=2))


def _calmest(score: Image, side: int, count: int) -> tuple[Box, ...]:
    """The boxes of least score, none overlapping another; `score[i, j]` is of the box whose corner is there."""
    score = score.copy()
    boxes: list[Box] = []
    while len(boxes) < count and np.isfinite(score.min()):
        row, column = (int(i) for i in np.unravel_index(np.argmin(score), score.shape))
        boxes.append(Box(row, column, side, side))
        score[max(0, row - side + 1) : row + side, max(0, column - side + 1) : column + side] = np.inf
    return tuple(boxes)
