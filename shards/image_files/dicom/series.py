"""DICOM series: which slices belong together, in which order, and how they lie. Needs pydicom.

Slices are turned in their plane to the display that radiology uses: rows run to the patient's left in axial and coronal
slices and to the back in sagittal ones; columns run to the back in axial slices and to the feet in the others. Most
files are stored in this way, and nothing is turned.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.shards.image_files.dicom.files import decode
from quell.shards.image_files.dicom.headers import DicomFrame, open_dicom
from quell.shards.image_files.geometry import Geometry, Layout
from quell.shards.image_files.image import Frame, StoredImage, Values

SAME_PLACE_MM = 1e-3
"""Slices closer than this along their normal are at the same place."""
PARALLEL_COSINE = 0.01
"""Components of the directions of two slices of one series may differ by this much."""
GAP = 1.5
"""A step between slices is a gap if it is this many times as long as most."""
ALWAYS_TOLD_APART = ("image type", "echo")
"""Traits that are never mixed in one series; the others tell slices apart only where their places repeat."""
DISPLAY = {0: ((1, 1), (2, -1)), 1: ((0, 1), (2, -1)), 2: ((0, 1), (1, 1))}
"""Axis of the normal (left, posterior, superior) -> axis and sign of the direction along rows, then along columns."""


@dataclass(frozen=True)
class Series:
    """The slices of one contrast of one patient, in order along their normal."""

    frames: tuple[DicomFrame, ...]
    label: str
    """What tells it apart from the others, for messages and for choosing: 'series 1.2.3, echo 2, ...'."""
    folder: str
    """The sub-folder that holds its patient; empty where all files are in one folder."""

    @property
    def patient(self) -> str:
        """PatientID; empty where there is none."""
        return self.frames[0].patient

    @cached_property
    def positions_mm(self) -> tuple[float, ...]:
        """Position of each slice along the normal; SliceLocation or InstanceNumber where the files state none."""
        return tuple(order_of(self.frames)[1])

    @property
    def has_positions(self) -> bool:
        """Whether `positions_mm` are places in the patient."""
        return order_of(self.frames)[0] == "position"

    @property
    def is_localizer(self) -> bool:
        """Whether its image type says that it is a scout for planning others."""
        return "LOCALIZER" in dict(self.frames[0].traits).get("image type", "")

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Neighbouring positions between which slices seem to be missing."""
        steps = np.diff(self.positions_mm)
        usual = float(np.median(steps)) if len(steps) > 1 else 0.0
        is_gap = (steps > GAP * usual) & (usual > 0)
        return [(self.positions_mm[i], self.positions_mm[i + 1]) for i in np.flatnonzero(is_gap).tolist()]


def find_series(frames: Iterable[DicomFrame], root: Path) -> list[Series]:
    """Tell apart the series among the slices of a folder.

    Slices are of one series if they agree in patient (in the sub-folder where there is no PatientID), series, size,
    orientation, pixel spacing, image type and echo. Where their positions repeat even so, sub-folder, acquisition,
    temporal position and the like tell them apart.

    Args:
        frames: The slices, from `read_frames`.
        root: The folder they are in.

    Returns:
        The series, by patient and label; slices in order.

    Raises:
        DataError: Two slices are at the same place and nothing tells them apart, or slices cannot be put in order.
    """
    frames = list(frames)
    folder_of = _folder_names({frame.path for frame in frames}, root)
    groups: dict[Hashable, list[list[DicomFrame]]] = defaultdict(list)  # the groups of an identity differ in geometry
    for frame in frames:
        alike = groups[_identity(frame), "" if frame.patient else folder_of[frame.path]]
        group = next((group for group in alike if _is_parallel(group[0], frame)), None)
        alike.append([frame]) if group is None else group.append(frame)
    series = []
    for group in (group for alike in groups.values() for group in alike):
        for part in _tell_apart(group, folder_of):
            series.append(Series(part, "", folder_of[part[0].path]))
    return sorted(_label(series), key=lambda each: (each.patient, each.folder, each.label))


def order_of(frames: Sequence[DicomFrame]) -> tuple[str, list[float]]:
    """What the slices can be ordered by (position, location, instance or nothing), and its value for each, mm or 1.

    Raises:
        DataError: Some slices state a position and others do not.
    """
    normal = _display_normal(frames[0])
    if normal is not None and all(frame.position is not None for frame in frames):
        return "position", [float(np.dot(normal, frame.position)) for frame in frames if frame.position is not None]
    placed = [frame for frame in frames if frame.position is not None and frame.normal is not None]
    if placed and len(placed) < len(frames):
        bare = next(frame for frame in frames if frame not in placed)
        raise DataError(
            f"{bare.where}: states no position, but {placed[0].where} of the same series does; leave one kind out"
        )
    if all(frame.location_mm is not None for frame in frames):
        return "location", [frame.location_mm for frame in frames if frame.location_mm is not None]
    if all(frame.instance is not None for frame in frames):
        return "instance", [float(frame.instance) for frame in frames if frame.instance is not None]
    return "nothing", [0.0] * len(frames)


def read_series(series: Series) -> StoredImage:
    """Read the pixels of a series, each file once; float32, in physical units.

    `source` is a list of the pydicom data sets of the files without pixels, in order of their first slice.

    Raises:
        DataError: A file cannot be read, or slices differ in the meaning of black and white.
    """
    images: dict[tuple[Path, int], np.ndarray] = {}
    values: list[Values] = []
    source = []
    for path in dict.fromkeys(frame.path for frame in series.frames):
        data = open_dicom(path, with_pixels=True)
        pixels, meaning = decode(path, data)
        values.append(meaning)
        for number in {frame.number for frame in series.frames if frame.path == path}:
            images[path, number] = pixels[number]
        if "PixelData" in data:
            del data.PixelData
        source.append(data)
    stack = np.stack([images[frame.path, frame.number] for frame in series.frames])
    geometry = geometry_of(series)
    turned = np.ascontiguousarray(geometry.layout.apply(stack))
    first = series.frames[0]
    frames = tuple(
        Frame(
            frame.path, frame.number, f"instance {frame.instance}" if frame.instance is not None else "", frame.position
        )
        for frame in series.frames
    )
    folder = (
        first.path if len(source) == 1 else Path(os.path.commonpath([frame.path.parent for frame in series.frames]))
    )
    return StoredImage(
        turned,
        folder,
        "dicom",
        _common_values(values),
        geometry,
        frames,
        (("Z", len(stack)),),
        source=source,
    )


def _identity(frame: DicomFrame) -> Hashable:
    """What slices of one series agree in."""
    return (
        frame.patient,
        frame.series or str(frame.path.parent),
        frame.rows,
        frame.columns,
        tuple(value for name, value in frame.traits if name in ALWAYS_TOLD_APART),
    )


def _is_parallel(a: DicomFrame, b: DicomFrame) -> bool:
    """Whether two slices agree in orientation and pixel spacing."""
    for first, second in ((a.rows_direction, b.rows_direction), (a.columns_direction, b.columns_direction)):
        if (first is None) != (second is None):
            return False
        if first is not None and second is not None and np.abs(np.subtract(first, second)).max() > PARALLEL_COSINE:
            return False
    if a.spacing_mm is None or b.spacing_mm is None:
        return a.spacing_mm == b.spacing_mm
    return bool(np.allclose(a.spacing_mm, b.spacing_mm, rtol=1e-3))


def _tell_apart(frames: list[DicomFrame], folder_of: dict[Path, str]) -> list[tuple[DicomFrame, ...]]:
    """Divide slices so that no place repeats; each part in order."""
    ordered = _in_order(frames)
    if _repeated(ordered) is None:
        return [ordered]
    names = dict.fromkeys(name for frame in frames for name, _ in frame.traits if name not in ALWAYS_TOLD_APART)
    dividers: list[Callable[[DicomFrame], Hashable]] = [lambda frame: folder_of[frame.path]]
    dividers += [partial(_trait, name) for name in names]
    dividers.append(lambda frame: (folder_of[frame.path], frame.traits))
    for divider in dividers:
        parts: dict[Hashable, list[DicomFrame]] = defaultdict(list)
        for frame in frames:
            parts[divider(frame)].append(frame)
        divided = [_in_order(part) for part in parts.values()]
        if len(divided) > 1 and all(_repeated(part) is None for part in divided):
            return divided
    repeated = _repeated(ordered)
    assert repeated is not None
    a, b = repeated
    kind, (value, _) = order_of((a, b))
    if kind == "nothing":
        raise DataError(
            f"{a.where} and {b.where}: {len(frames)} slices state neither position nor number, so their order is "
            "unknown; number them in InstanceNumber"
        )
    unit = "" if kind == "instance" else " mm"
    raise DataError(
        f"{a.where} and {b.where} are slices of the same series at the same {kind} {value:g}{unit}, and no echo, "
        "acquisition or sub-folder tells them apart; remove one, or move them to separate folders"
    )


def _trait(name: str, frame: DicomFrame) -> Hashable:
    return dict(frame.traits).get(name, "")


def _in_order(frames: Sequence[DicomFrame]) -> tuple[DicomFrame, ...]:
    places = order_of(frames)[1]
    order = sorted(range(len(frames)), key=lambda i: (places[i], str(frames[i].path), frames[i].number))
    return tuple(frames[i] for i in order)


def _repeated(ordered: Sequence[DicomFrame]) -> tuple[DicomFrame, DicomFrame] | None:
    """Two neighbouring slices at the same place."""
    places = order_of(ordered)[1]
    for i in range(len(places) - 1):
        if places[i + 1] - places[i] < SAME_PLACE_MM:
            return ordered[i], ordered[i + 1]
    return None


def _folder_names(paths: Iterable[Path], root: Path) -> dict[Path, str]:
    """For each file the folder that tells patients apart: on the first level on which there are several."""
    parts = {path: path.relative_to(root).parts[:-1] if path.is_relative_to(root) else () for path in paths}
    levels = max((len(each) for each in parts.values()), default=0)
    level = 0
    for candidate in range(levels):
        if len({each[candidate] if candidate < len(each) else "" for each in parts.values()}) > 1:
            level = candidate
            break
    return {path: each[level] if level < len(each) else "" for path, each in parts.items()}


def _label(series: list[Series]) -> list[Series]:
    """The series with labels that name all in which the series of a patient differ."""
    labelled = []
    for each in series:
        first = each.frames[0]
        others = [other.frames[0] for other in series if other.patient == each.patient]
        parts = [f"series {first.series or '(no SeriesInstanceUID)'}"]
        if first.description:
            parts.append(f"'{first.description}'")
        for name, value in first.traits:
            if any(dict(other.traits).get(name) != value for other in others):
                parts.append(f"{name} {value}")
        if any((other.rows, other.columns) != (first.rows, first.columns) for other in others):
            parts.append(f"{first.rows} x {first.columns} pixels")
        if first.spacing_mm and any(other.spacing_mm != first.spacing_mm for other in others):
            parts.append(f"spacing {first.spacing_mm[0]:g} x {first.spacing_mm[1]:g} mm")
        if any(other.rows_direction != first.rows_direction for other in others) and first.rows_direction:
            parts.append("rows along " + " ".join(f"{value:.2g}" for value in first.rows_direction))
        if each.folder:
            parts.append(f"folder {each.folder}")
        labelled.append(replace(each, label=", ".join(parts) + f" ({len(each.frames)} slices)"))
    return labelled


def _display_turn(frame: DicomFrame) -> tuple[bool, bool, bool]:
    """Whether rows and columns are to be exchanged, and then whether columns and rows are to be reversed."""
    rows, columns, normal = frame.rows_direction, frame.columns_direction, frame.normal
    if rows is None or columns is None or normal is None:
        return False, False, False
    (row_axis, row_sign), (column_axis, column_sign) = DISPLAY[int(np.argmax(np.abs(normal)))]
    straight = abs(rows[row_axis]) + abs(columns[column_axis])
    crossed = abs(rows[column_axis]) + abs(columns[row_axis])
    exchange = crossed > straight
    along_row, along_column = (columns, rows) if exchange else (rows, columns)
    return exchange, along_column[column_axis] * column_sign < 0, along_row[row_axis] * row_sign < 0


def _display_directions(frame: DicomFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Unit vectors along rows and along columns after turning."""
    if frame.rows_direction is None or frame.columns_direction is None:
        return None
    exchange, flip_rows, flip_columns = _display_turn(frame)
    along_row, along_column = np.array(frame.rows_direction), np.array(frame.columns_direction)
    if exchange:
        along_row, along_column = along_column, along_row
    return along_row * (-1 if flip_columns else 1), along_column * (-1 if flip_rows else 1)


def _display_normal(frame: DicomFrame) -> np.ndarray | None:
    directions = _display_directions(frame)
    return None if directions is None else np.cross(*directions)


def geometry_of(series: Series) -> Geometry:
    """How the slices of a series are turned, and where the turned stack lies."""
    first, last = series.frames[0], series.frames[-1]
    exchange, flip_rows, flip_columns = _display_turn(first)
    shape = (len(series.frames), first.rows, first.columns)
    layout = Layout(shape, (0, 2, 1) if exchange else (0, 1, 2), (False, flip_rows, flip_columns))
    directions, origin = _display_directions(first), turned_origin(first)
    if directions is None or first.spacing_mm is None or origin is None or not series.has_positions:
        return Geometry(layout, spacing_mm=_spacing_mm(series, None, exchanged=exchange))
    along_row, along_column = directions
    step = np.cross(along_row, along_column)
    if len(series.frames) > 1:
        step = np.subtract(last.position or 0, first.position or 0) / (len(series.frames) - 1)
    between_rows, between_columns = first.spacing_mm[::-1] if exchange else first.spacing_mm
    affine = np.eye(4)
    affine[:3] = np.stack([step, along_column * between_rows, along_row * between_columns, origin], axis=1)
    affine[:2] *= -1  # DICOM counts towards left and posterior
    return Geometry(layout, affine + 0.0, _spacing_mm(series, affine, exchanged=exchange))


def turned_origin(frame: DicomFrame) -> np.ndarray | None:
    """Centre of the first pixel after turning, mm (left, posterior, superior); None where the file does not say."""
    if frame.position is None or frame.spacing_mm is None:
        return None if frame.position is None else np.array(frame.position)
    exchange, flip_rows, flip_columns = _display_turn(frame)
    directions = _display_directions(frame)
    if directions is None:
        return np.array(frame.position)
    along_row, along_column = directions
    height, width = turned_size(frame)
    between_rows, between_columns = frame.spacing_mm[::-1] if exchange else frame.spacing_mm
    origin = np.array(frame.position)
    origin = origin - along_column * between_rows * (height - 1) * flip_rows
    return np.asarray(origin - along_row * between_columns * (width - 1) * flip_columns)


def turned_size(frame: DicomFrame) -> tuple[int, int]:
    """Rows and columns of a slice after turning."""
    return (frame.columns, frame.rows) if _display_turn(frame)[0] else (frame.rows, frame.columns)


def _spacing_mm(
    series: Series, affine: np.ndarray | None, *, exchanged: bool
) -> tuple[float | None, float, float] | None:
    """Distances between slices, rows and columns of the turned stack."""
    spacing = series.frames[0].spacing_mm
    if spacing is None:
        return None
    rows, columns = spacing[::-1] if exchanged else spacing
    between = float(np.linalg.norm(affine[:3, 0])) if affine is not None and len(series.frames) > 1 else None
    return between, rows, columns


def _common_values(values: Sequence[Values]) -> Values:
    """The meaning of the numbers of all slices; slope and intercept become NaN where they differ."""
    first = values[0]

    def scale(each: Values) -> tuple[float, float, bool, float]:
        return each.slope, each.intercept, each.inverted, each.inverted_around

    if any(scale(each) != scale(first) for each in values):
        first = replace(first, slope=float("nan"), intercept=float("nan"))
    return first
