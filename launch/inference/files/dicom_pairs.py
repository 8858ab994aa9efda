"""Slices of several DICOM series that show the same place, for methods that read several contrasts."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files.read import suffix_of

if TYPE_CHECKING:  # needs pydicom
    from quell.shards.image_files.dicom.series import Series

SUFFIXES = (".dcm", ".ima")
TOLERANCE_MM = 0.5
"""Slices are at the same place if their positions along the normal differ by at most this much."""


def pairs_by_position(found: dict[str, list[Path]], roots: dict[str, Path]) -> list[dict[str, Path]] | None:
    """Match the slices of one series per field by their positions.

    Args:
        found: Field -> files below its folder.
        roots: Field -> that folder.

    Returns:
        A file per field for every position; None where the files are not all DICOM slices that state a position, or a
        folder holds several series.

    Raises:
        DataError: The series do not cover the same places.
    """
    if not all(suffix_of(path) in SUFFIXES for paths in found.values() for path in paths):
        return None
    from quell.shards.image_files.dicom.headers import read_frames
    from quell.shards.image_files.dicom.series import find_series

    series = {
        name: find_series([frame for path in paths for frame in read_frames(path)], roots[name])
        for name, paths in found.items()
    }
    if any(len(several) > 1 for several in series.values()):
        return None
    single = {name: several[0] for name, several in series.items()}
    if not all(_is_of_slices(each) for each in single.values()):
        return None
    first, *others = single
    for name in others:
        a, b = single[first].positions_mm, single[name].positions_mm
        if len(a) != len(b) or np.abs(np.subtract(a, b)).max() > TOLERANCE_MM:
            raise DataError(
                f"{roots[name]}: {len(b)} slices from {b[0]:g} to {b[-1]:g} mm, but {roots[first]} has {len(a)} from "
                f"{a[0]:g} to {a[-1]:g} mm: give series of the same places"
            )
    return [
        {name: each.frames[number].path for name, each in single.items()} for number in range(len(single[first].frames))
    ]


def _is_of_slices(series: "Series") -> bool:
    """Whether every file of a series is a slice with a position."""
    return series.has_positions and len({frame.path for frame in series.frames}) == len(series.frames)
