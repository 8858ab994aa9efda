"""Where the pixels of a file are: how the stored array was turned, and where it lies in the patient."""

from dataclasses import dataclass

import numpy as np

ANGLE_COSINE = 1e-3
"""Components of two direction vectors may differ by this much, which is 0.06 degrees."""
SPACING_SHARE = 1e-3
"""Two pixel spacings may differ by this share."""
ORIGIN_PIXELS = 0.02
"""Two in-plane origins may differ by this share of a pixel."""


@dataclass(frozen=True)
class Layout:
    """How the array of a file was brought into the order of axes that Quell uses; `undo` returns to the file's."""

    file_shape: tuple[int, ...]
    """Shape as stored, singleton axes included."""
    order: tuple[int, ...]
    """The axes of the stored array without singleton axes, in the order in which they were taken."""
    flips: tuple[bool, ...]
    """Axes that were reversed, after reordering."""
    keep: tuple[int, ...] | None = None
    """The axes of `file_shape` that were kept; None: all of them."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Layout":
        """The layout of an array that is used as it is stored."""
        return cls(array.shape, tuple(range(array.ndim)), (False,) * array.ndim)

    @property
    def is_stored(self) -> bool:
        """Whether nothing was turned: the axes are the file's own."""
        return self.order == tuple(range(len(self.order))) and not any(self.flips)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Bring an array of `file_shape` into the order of axes that Quell uses; a view where possible."""
        kept = range(array.ndim) if self.keep is None else self.keep
        squeezed = array.reshape([array.shape[axis] for axis in kept])
        return self._flip(squeezed.transpose(self.order))

    def undo(self, array: np.ndarray) -> np.ndarray:
        """The reverse of `apply`: an array of `file_shape`."""
        return self._flip(array).transpose(np.argsort(self.order)).reshape(self.file_shape)

    def _flip(self, array: np.ndarray) -> np.ndarray:
        return array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]


@dataclass(frozen=True)
class Geometry:
    """What a file says about the place of its pixels."""

    layout: Layout
    affine: np.ndarray | None = None
    """(4, 4): index (slice, row, column, 1) of `StoredImage.pixels` -> millimetres towards the patient's right,
    anterior and superior; None where the file does not say."""
    spacing_mm: tuple[float | None, float | None, float | None] | None = None
    """Distance between the centres of neighbouring slices, rows and columns."""

    @property
    def directions(self) -> np.ndarray:
        """(3, 3): unit vectors of the slice, row and column axes, as columns. Only with an affine."""
        assert self.affine is not None
        axes = self.affine[:3, :3]
        lengths = np.linalg.norm(axes, axis=0)
        return np.asarray(axes / np.where(lengths > 0, lengths, 1.0))


def plane_of(normal: np.ndarray) -> str:
    """The name of the plane that is perpendicular to a direction: axial, coronal or sagittal, or nearly so."""
    axis = int(np.argmax(np.abs(normal)))
    name = ("sagittal", "coronal", "axial")[axis]
    return name if np.abs(normal[axis]) > 1 - ANGLE_COSINE else f"oblique, nearly {name}"


def differences(a: Geometry, b: Geometry, *, in_plane: bool = False) -> list[str]:
    """What keeps two images of the same shape from showing the same places, with the numbers; [] if they agree.

    Only what both files state is compared.

    Args:
        a: One image.
        b: The other.
        in_plane: Compare orientation and spacing of rows and columns only, neither origins nor the slice axis.
    """
    if a.affine is None or b.affine is None:
        return _spacing_differences(a, b, in_plane)
    found = _direction_differences(a, b, in_plane) + _spacing_differences(a, b, in_plane)
    if found or in_plane:
        return found
    shift_mm = b.affine[:3, 3] - a.affine[:3, 3]
    along = np.abs(a.directions.T @ shift_mm)
    spacing = np.linalg.norm(a.affine[:3, :3], axis=0)
    if (along > ORIGIN_PIXELS * np.where(spacing > 0, spacing, 1.0)).any():
        return [f"origin {as_text(a.affine[:3, 3])} mm against {as_text(b.affine[:3, 3])} mm"]
    return []


def _direction_differences(a: Geometry, b: Geometry, in_plane: bool) -> list[str]:
    axes = slice(1, 3) if in_plane else slice(0, 3)
    first, second = a.directions[:, axes], b.directions[:, axes]
    if np.abs(first - second).max() <= ANGLE_COSINE:
        return []
    planes = tuple(plane_of(np.cross(each.directions[:, 1], each.directions[:, 2])) for each in (a, b))
    if planes[0] != planes[1]:
        return [f"plane {planes[0]} against {planes[1]}"]
    names = "rows and columns" if in_plane else "slices, rows and columns"
    return [f"orientation (directions across {names}) {as_text(first.T.ravel())} against {as_text(second.T.ravel())}"]


def _spacing_differences(a: Geometry, b: Geometry, in_plane: bool) -> list[str]:
    if a.spacing_mm is None or b.spacing_mm is None:
        return []
    for first, second in list(zip(a.spacing_mm, b.spacing_mm, strict=True))[1 if in_plane else 0 :]:
        if first and second and abs(first - second) > SPACING_SHARE * first:
            return [f"spacing {_spacing(a.spacing_mm)} mm against {_spacing(b.spacing_mm)} mm"]
    return []


def _spacing(spacing_mm: tuple[float | None, float | None, float | None]) -> str:
    return " x ".join("?" if value is None else f"{value:g}" for value in spacing_mm)


def as_text(values: np.ndarray) -> str:
    """Coordinates for a message: (1, -2.5, 30)."""
    return "(" + ", ".join(f"{value + 0.0:.4g}" for value in values.tolist()) + ")"


EXIF_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""Orientation tag of EXIF and TIFF -> whether rows and columns are exchanged, then whether each is reversed."""


def turned_layout(shape: tuple[int, ...], axes: str, wanted: str, orientation: int) -> Layout:
    """The layout that brings an array to the `wanted` axes and turns it as an orientation tag says.

    Args:
        shape: Shape of the array in the file.
        axes: A letter for each of its axes.
        wanted: The same letters in the order wanted; H and W among them.
        orientation: The tag of EXIF and TIFF; anything but 2 to 8 means that nothing is turned.
    """
    exchange, flip_rows, flip_columns = EXIF_TURNS.get(orientation, EXIF_TURNS[1])
    letters = wanted.translate(str.maketrans("HW", "WH")) if exchange else wanted
    order = tuple(axes.index(letter) for letter in letters)
    flips = tuple(flip_rows if letter == "H" else flip_columns if letter == "W" else False for letter in wanted)
    return Layout(tuple(shape), order, flips)
