"""Regions of interest: homogeneous boxes of background and foreground, from a file or found in an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.configs.support.json_files import parse_json
from quell.losses.metrics.common.images import Image, checked_image

FOREGROUNDS = 5
"""Most foreground boxes that are looked for."""
SMALLEST_PX = 8
"""Smallest side of a box that is looked for."""


class Box(NamedTuple):
    """A rectangle of pixels."""

    row: int
    column: int
    height: int
    width: int

    def of(self, image: Image) -> Image:
        """The pixels of the image inside the box.

        Raises:
            DataError: The box is empty or extends beyond the image.
        """
        fits = min(self.row, self.column) >= 0 and min(self.height, self.width) > 0
        if not fits or self.row + self.height > image.shape[0] or self.column + self.width > image.shape[1]:
            raise DataError(
                f"the region (row, column, height, width) = {tuple(self)} is empty or extends beyond an image of "
                f"{image.shape[0]} x {image.shape[1]} pixels"
            )
        return image[self.row : self.row + self.height, self.column : self.column + self.width]


@dataclass(frozen=True)
class Rois:
    """The regions a metric looks at, at least one of each kind."""

    background: tuple[Box, ...]
    foreground: tuple[Box, ...]

    @classmethod
    def from_file(cls, path: Path) -> "Rois":
        """Read `{"background": [[row, column, height, width], ...], "foreground": [...]}`.

        Raises:
            DataError: The file cannot be read, or is not of this form.
        """
        try:
            content = parse_json(path.read_bytes())
            boxes = {key: tuple(Box(*map(int, box)) for box in content[key]) for key in ("background", "foreground")}
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(
                f'{path}: expected {{"background": [[row, column, height, width], ...], "foreground": [...]}} ({error})'
            ) from error
        if not all(boxes.values()):
            raise DataError(f"{path}: needs at least one background and one foreground region")
        return cls(**boxes)


def given_or_found(restored: NDArray[np.generic], clean: NDArray[np.generic] | None, rois: Rois | None) -> Rois:
    """The given regions, or else those found in the clean image, or else those found in the restored one.

    Only regions from a file or from the same clean image make two restorations comparable.
    """
    return rois or find_rois(checked_image(restored if clean is None else clean, "reference"))


def find_rois(reference: Image) -> Rois:
    """Find a background box and up to five foreground boxes, square, 1/16 of the shorter side (at least 8 px).

    The background is the box with the smallest standard deviation among those whose mean is in the darkest quarter. The
    foreground is the boxes with the smallest ratio of standard deviation to mean among those in the brightest quarter,
    without overlap. Boxes without any variation (masked or padded parts) are skipped.

    Args:
        reference: Image (H, W) or (H, W, C), whose channels are averaged.

    Raises:
        DataError: The image is too small, or has no such box of either kind.
    """
    image = to_grey(reference)
    side = max(SMALLEST_PX, min(image.shape) // 16)
    if min(image.shape) < 2 * side:
        raise DataError(f"an image of {image.shape} is too small to find regions of {side} px in: give them in a file")
    window = slice(side // 2, side // 2 + 1 - side)
    mean = scipy.ndimage.uniform_filter(image, side)[window, window]
    variance = scipy.ndimage.uniform_filter(image**2, side)[window, window] - mean**2
    spread = np.sqrt(np.maximum(variance, 0))
    varied = spread > 1e-6 * (image.max() - image.min())
    dark, bright = np.percentile(mean, (25, 75))
    background = _lowest_boxes(np.where(varied & (mean <= dark), spread, np.inf), side, 1)
    relative = np.divide(spread, mean, out=np.full_like(mean, np.inf), where=varied & (mean >= bright) & (mean > 0))
    foreground = _lowest_boxes(relative, side, FOREGROUNDS)
    if not background or not foreground:
        raise DataError("found no dark and bright regions with any variation in the image: give regions in a file")
    return Rois(background, foreground)


def to_grey(image: Image) -> Image:
    """The mean over channels, (H, W)."""
    return image if image.ndim == 2 else np.asarray(image.mean(axis=2))


def _lowest_boxes(score: Image, side: int, count: int) -> tuple[Box, ...]:
    """Up to `count` boxes of lowest finite score without overlap; `score[i, j]` is for the box with corner i, j."""
    score = score.copy()
    boxes: list[Box] = []
    while len(boxes) < count and np.isfinite(score.min()):
        row, column = (int(i) for i in np.unravel_index(np.argmin(score), score.shape))
        boxes.append(Box(row, column, side, side))
        score[max(0, row - side + 1) : row + side, max(0, column - side + 1) : column + side] = np.inf
    return tuple(boxes)
