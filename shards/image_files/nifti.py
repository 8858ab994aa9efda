"""NIfTI volumes, by nibabel, in canonical orientation. Needs nibabel.

The axes of the file are reordered and reversed so that they run as nearly as possible to the patient's right, anterior
and superior. Slices are then axial: rows run across to the right, columns to the front. A file that states no
orientation is used as it is stored.
"""

import gzip
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation

from quell.configs.errors import DataError
from quell.shards.image_files.arrays import numbers
from quell.shards.image_files.errors import reading
from quell.shards.image_files.geometry import Geometry, Layout
from quell.shards.image_files.image import Frame, StoredImage, Values
from quell.shards.listing.finite import check_finite

MUCH_LONGER = 1.5
"""Voxels that are this many times as long along one axis come from a 2-D acquisition."""


def read(path: Path) -> list[StoredImage]:
    """Read a volume, or a series of volumes (4-D).

    `pixels` are (z, x, y) where x, y and z run to the right, anterior and superior; of a series (time * z, x, y).
    `source` is a tuple: nibabel's header, and the affine matrix of the file.

    Raises:
        DataError: The file is damaged, holds colours or something other than volumes, or its affine matrix is singular.
    """
    with reading(path, "not a readable NIfTI volume"):
        return [_read(path)]


def slice_axis(path: Path) -> int | None:
    """The axis (0 to the right, 1 anterior, 2 superior) across the slices of a 2-D acquisition, from the header alone.

    Returns:
        The axis along which voxels are much longer than along the others; None where there is none.

    Raises:
        DataError: The file cannot be read.
    """
    with reading(path, "not a readable NIfTI volume"):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.spatialimages.SpatialImage):
            return None
        spacing = np.ones(3)
        zooms = np.asarray(image.header.get_zooms()[:3], dtype=float)
        spacing[: len(zooms)] = zooms
        if _states_place(image, path):
            affine = np.asarray(image.affine, dtype=float)
            orientation = io_orientation(affine)
            if not np.isfinite(orientation).all():
                return None
            spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])]
        widest = int(np.argmax(spacing))
        is_clear = spacing[widest] >= MUCH_LONGER * np.delete(spacing, widest).max()
        return widest if is_clear else None


def _read(path: Path) -> StoredImage:
    image, stored = _load(path)
    if stored.ndim == 2:  # a single slice, which has a place all the same
        stored = stored[..., None]
    kept = _kept_axes(stored.shape, path)
    states_place = _states_place(image, path)
    affine = _millimetres(image) @ np.asarray(image.affine, dtype=np.float64)
    layout, turned_affine = _canonical(stored.shape, kept, affine if states_place else None, path)
    plain = np.ascontiguousarray(layout.apply(stored))
    pixels = plain.reshape(-1, *plain.shape[-2:])
    axes = "slice,row,column" if plain.ndim == 3 else "volume,slice,row,column"
    check_finite(plain, str(path), axes)
    letters = "Z" if plain.ndim == 3 else "TZ"
    stack_axes = tuple(zip(letters, plain.shape[:-2], strict=True))
    slices = plain.shape[-3]
    frames = tuple(
        Frame(path, number, f"z={number % slices}" if plain.ndim == 3 else f"t={number // slices} z={number % slices}")
        for number in range(len(pixels))
    )
    spacing = None
    zooms = image.header.get_zooms()
    if turned_affine is not None:
        spacing = _three(np.linalg.norm(turned_affine[:3, :3], axis=0))
    elif len(zooms) >= 3 and all(value > 0 for value in zooms[:3]):
        spacing = _three(np.array([zooms[2], zooms[0], zooms[1]], dtype=float))
    geometry = Geometry(layout, turned_affine, spacing)
    source = (image.header.copy(), np.asarray(image.affine))
    return StoredImage(pixels, path, "nifti", _values(image, stored), geometry, frames, stack_axes, source=source)


def _load(path: Path) -> tuple[nibabel.spatialimages.SpatialImage, np.ndarray]:
    """The file, and its numbers after scaling, in native byte order."""
    image = nibabel.load(path)
    if not isinstance(image, nibabel.spatialimages.SpatialImage):  # CIFTI, surface data in a .nii file
        raise DataError(f"{path}: expected a volume, got a {type(image).__name__}")
    kind = image.get_data_dtype()
    if kind.names is not None:
        raise DataError(
            f"{path}: a colour volume ({' '.join(kind.names)}); expected grey values; convert it to one channel"
        )
    data = np.asarray(image.dataobj)
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as packed:  # to the end, where the checksum is; nibabel stops before it
            while packed.read(1 << 20):
                pass
    if data.ndim == 0 or 0 in data.shape:
        raise DataError(f"{path}: holds no image (shape {data.shape})")
    return image, numbers(data, str(path))


def _kept_axes(shape: tuple[int, ...], path: Path) -> tuple[int, ...]:
    """The three axes of space, and the axis of time if there is any; further axes of length 1 are dropped."""
    further = tuple(axis for axis in range(3, len(shape)) if shape[axis] > 1)
    if len(shape) < 3 or len(further) > 1:
        raise DataError(f"{path}: expected a volume with 3 axes, or a series of volumes with 4, got shape {shape}")
    return (0, 1, 2, *further)


def _states_place(image: nibabel.spatialimages.SpatialImage, path: Path) -> bool:
    """Whether the header says where the voxels are; nibabel makes up an affine matrix if it does not.

    Raises:
        DataError: Its two ways to say so contradict each other.
    """
    header = image.header
    if not isinstance(header, nibabel.nifti1.Nifti1Header):
        return True
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is not None and qform is not None and np.linalg.det(sform[:3, :3]) != 0:
        axes = ["".join(map(str, nibabel.aff2axcodes(each))) for each in (sform, qform)]
        if axes[0] != axes[1]:
            raise DataError(
                f"{path}: sform and qform contradict each other: axes towards {axes[0]} against {axes[1]}; correct the "
                "header"
            )
    return sform is not None or qform is not None


def _millimetres(image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """The matrix that brings coordinates of the file's unit to millimetres."""
    units = image.header.get_xyzt_units() if isinstance(image.header, nibabel.nifti1.Nifti1Header) else ("mm",)
    factor = {"meter": 1e3, "micron": 1e-3}.get(units[0], 1.0)
    return np.diag([factor, factor, factor, 1.0])


def _canonical(
    shape: tuple[int, ...], kept: tuple[int, ...], affine: np.ndarray | None, path: Path
) -> tuple[Layout, np.ndarray | None]:
    """The layout from the file to (time, z, x, y), and the affine matrix (slice, row, column) after it."""
    axis_of, flipped = np.arange(3), np.zeros(3, dtype=bool)
    turned = None
    if affine is not None:
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise DataError(f"{path}: its affine matrix is singular, so the orientation is unknown; correct the header")
        orientation = io_orientation(affine)
        for stored_axis, (axis, direction) in enumerate(orientation.tolist()):
            axis_of[int(axis)], flipped[int(axis)] = stored_axis, direction < 0
        canonical = affine @ inv_ornt_aff(orientation, shape[:3])
        turned = canonical[:, [2, 0, 1, 3]]
    x, y, z = (int(axis_of[axis]) for axis in range(3))
    order, flips = (z, x, y), (bool(flipped[2]), bool(flipped[0]), bool(flipped[1]))
    if len(kept) == 4:
        return Layout(shape, (3, *order), (False, *flips), kept), turned
    return Layout(shape, order, flips, kept), turned


def _values(image: nibabel.spatialimages.SpatialImage, data: np.ndarray) -> Values:
    stored = image.get_data_dtype()
    slope, intercept = (float(getattr(image.dataobj, name, default)) for name, default in (("slope", 1), ("inter", 0)))
    window = None
    if isinstance(image.header, nibabel.nifti1.Nifti1Header):
        low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
        window = (low, high) if np.isfinite([low, high]).all() and low < high else None
    bits = 8 * stored.itemsize if stored.kind == "u" and data.dtype.kind == "u" else None
    return Values(stored.name, bits_stored=bits, slope=slope, intercept=intercept, window=window)


def _three(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
