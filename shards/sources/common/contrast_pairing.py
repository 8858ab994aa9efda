"""Which DICOM series of several contrasts show the same patient, and which of their slices show the same place."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support.logs import get_logger
from quell.shards.image_files.dicom.headers import DicomFrame, NoDicomError, NoImageError, dicom_suffixes, read_frames
from quell.shards.image_files.dicom.series import Series, find_series, geometry_of, turned_origin, turned_size
from quell.shards.image_files.geometry import ORIGIN_PIXELS, as_text, differences
from quell.shards.listing.folders import list_files
from quell.shards.listing.left_out import leave_out

log = get_logger(__name__)


class Subject(NamedTuple):
    """One series per contrast that belong together."""

    key: str
    """The patient, with the sub-folder where a patient has several."""
    group: str
    """The patient: all that has the same group stays in one split."""
    contrasts: dict[str, Series]


def find_subjects(contrasts: Mapping[str, Sequence[Series]], roots: Mapping[str, Path], by: str) -> list[Subject]:
    """Match the series of the contrasts by patient.

    Args:
        contrasts: Contrast -> its series.
        roots: Contrast -> the folder it was read from, for messages.
        by: `id`: PatientID, or the sub-folder where there is none. `folder`: the sub-folder. `auto`: PatientID, and the
            sub-folder too where a patient has a series in each of several.

    Raises:
        DataError: A patient has several series of a contrast, or no patient has all contrasts.
    """
    subjects = []
    for patient, by_contrast in series_by_patient(contrasts, by).items():
        subjects += _subjects_of(patient, by_contrast, roots, by)
    patients = {subject.group for subject in subjects}
    if by == "auto" and len(patients) == 1 and len(subjects) > 1:
        log.warning(
            f"all series have the PatientID {next(iter(patients))}: taking their sub-folders for patients "
            f"({', '.join(subject.contrasts[next(iter(contrasts))].folder for subject in subjects[:5])}, ...)"
        )
        return [subject._replace(group=subject.key) for subject in subjects]
    return subjects


def series_by_patient(contrasts: Mapping[str, Sequence[Series]], by: str) -> dict[str, dict[str, list[Series]]]:
    """Patient -> contrast -> its series, for the patients that have all contrasts; the others are noted as left out.

    Args:
        contrasts: Contrast -> its series.
        by: As in `find_subjects`; `auto` is PatientID here.

    Raises:
        DataError: No patient has all contrasts.
    """
    found: dict[str, dict[str, list[Series]]] = defaultdict(lambda: defaultdict(list))
    for name, series in contrasts.items():
        for each in series:
            patient = each.folder if by == "folder" or not each.patient else each.patient
            found[patient or "unnamed"][name].append(each)
    complete = {}
    for patient, by_contrast in sorted(found.items()):
        missing = [name for name in contrasts if name not in by_contrast]
        if missing:
            leave_out("patient without all contrasts", patient, f"no {' or '.join(missing)}")
        else:
            complete[patient] = dict(by_contrast)
    if not complete:
        raise DataError(
            f"no patient has all of the contrasts {', '.join(contrasts)}; their PatientID must agree, or else the "
            "names of their sub-folders (--patient-by folder)"
        )
    return complete


def read_folder(root: Path, suffixes: Sequence[str]) -> list[Series]:
    """The series below a folder. Files without an image are noted as left out, and so are localizers beside others.

    Raises:
        DataError: A file is damaged, or slices cannot be told apart or put in order.
    """
    frames: list[DicomFrame] = []
    for path in list_files(root, (*suffixes, *dicom_suffixes(root)), recursive=True, what="DICOM files"):
        try:
            frames += read_frames(path)
        except NoImageError:
            leave_out("DICOM file without an image", path)
        except NoDicomError:
            if path.suffix:
                raise
            leave_out("file of another type", path)
    if not frames:
        raise DataError(f"{root}: no DICOM images")
    series = find_series(frames, root)
    images = [each for each in series if not each.is_localizer] or series
    for each in series:
        if each not in images:
            leave_out("localizer", f"patient {each.patient or each.folder}: {each.label}")
    return images


def choose_series(series: list[Series], pattern: str | None) -> list[Series]:
    """The series whose label a regular expression matches; the others are noted as left out."""
    if pattern is None:
        return series
    chosen = [each for each in series if re.search(pattern, each.label)]
    if not chosen:
        labels = "; ".join(each.label for each in series[:6])
        raise DataError(f"--series: no description matches {pattern!r}; there are: {labels}")
    for each in series:
        if each not in chosen:
            leave_out("unchosen scan", f"patient {each.patient or each.folder}: {each.label}")
    return chosen


def pair_slices(subject: Subject, tolerance_mm: float) -> dict[str, Series]:
    """The slices of each contrast that have a partner in all others, one to one, in order.

    Raises:
        DataError: The contrasts differ in plane, orientation, spacing or size, their slices lie apart in the plane, a
            slice would have two partners, or none has any.
    """
    names = list(subject.contrasts)
    first = subject.contrasts[names[0]]
    partners: dict[str, list[int | None]] = {}
    for name in names:
        other = subject.contrasts[name]
        _check_comparable(subject.key, (names[0], first), (name, other))
        partners[name] = _partners(subject.key, (names[0], first), (name, other), tolerance_mm)
    complete = [i for i in range(len(first.frames)) if all(partners[name][i] is not None for name in names)]
    paired = {name: [partners[name][i] for i in complete] for name in names}
    if not complete:
        raise DataError(f"{subject.key}: no slice positions of {', '.join(names)} agree within {tolerance_mm} mm")
    series = {}
    for name in names:
        whole = subject.contrasts[name]
        kept = tuple(whole.frames[i] for i in paired[name] if i is not None)
        for frame in whole.frames:
            if frame not in kept:
                leave_out("slice without partner", frame.where)
        series[name] = replace(whole, frames=kept)
    _check_origins(subject.key, series)
    return series


def warn_of_gaps(subject: Subject) -> None:
    """Name the places at which slices of a series seem to be missing."""
    for name, series in subject.contrasts.items():
        unit = " mm" if series.has_positions else ""
        for low, high in series.gaps:
            leave_out("missing slice", f"{subject.key}: {name}", f"a gap between {low:g} and {high:g}{unit}")
            log.warning(f"{subject.key}: {name}: slices are missing between {low:g} and {high:g}{unit}")


def _subjects_of(
    patient: str, by_contrast: Mapping[str, list[Series]], roots: Mapping[str, Path], by: str
) -> list[Subject]:
    """The subjects of one patient: one, or one for each sub-folder that has one series of each contrast."""
    if all(len(series) == 1 for series in by_contrast.values()):
        return [Subject(patient, patient, {name: series[0] for name, series in by_contrast.items()})]
    folders = [[each.folder for each in series] for series in by_contrast.values()]
    told_apart = all(len(set(names)) == len(names) and all(names) for names in folders)
    common = set.intersection(*map(set, folders))
    if by == "auto" and told_apart and common:
        for name, series in by_contrast.items():
            for each in series:
                if each.folder not in common:
                    leave_out("scan without partner", f"{patient}: {name}: {each.label}")
        return [
            Subject(
                f"{patient}-{folder}",
                patient,
                {name: next(each for each in series if each.folder == folder) for name, series in by_contrast.items()},
            )
            for folder in sorted(common)
        ]
    name, series = next((name, series) for name, series in by_contrast.items() if len(series) > 1)
    labels = "; ".join(each.label for each in series[:6])
    raise DataError(
        f"{roots[name]}: patient {patient} has {len(series)} series, expected 1: {labels}; choose one with "
        f"--series '{name}=TEXT', where TEXT is a part of its description, or remove the others"
    )


def _check_comparable(key: str, a: tuple[str, Series], b: tuple[str, Series]) -> None:
    """Raise DataError where two series differ in what all of their slices share."""
    first, second = a[1].frames[0], b[1].frames[0]
    found = differences(geometry_of(a[1]), geometry_of(b[1]), in_plane=True)
    sizes = [turned_size(frame) for frame in (first, second)]
    if sizes[0] != sizes[1]:
        found.append(f"size {sizes[0][0]} x {sizes[0][1]} against {sizes[1][0]} x {sizes[1][1]} pixels")
    if a[1].has_positions != b[1].has_positions:
        found.append("one states positions of its slices, the other does not")
    if found:
        raise DataError(
            f"{key}: {a[0]} and {b[0]} do not show the same places: {'; '.join(found)} ({first.where} and "
            f"{second.where}); choose series of one geometry, or register and resample them first"
        )
    if first.reference and second.reference and first.reference != second.reference:
        log.warning(f"{key}: {a[0]} and {b[0]} state different frames of reference; the patient may have moved between")


def _partners(key: str, a: tuple[str, Series], b: tuple[str, Series], tolerance_mm: float) -> list[int | None]:
    """For each slice of the first series the nearest of the second, if it is within the tolerance."""
    own, others = np.array(a[1].positions_mm), np.array(b[1].positions_mm)
    nearest = np.abs(others[None, :] - own[:, None]).argmin(axis=1)
    partners: list[int | None] = []
    taken: dict[int, int] = {}
    for i, j in enumerate(nearest.tolist()):
        if abs(others[j] - own[i]) > tolerance_mm:
            partners.append(None)
            continue
        if j in taken:
            raise DataError(
                f"{key}: the slice of {b[0]} at {others[j]:g} ({b[1].frames[j].where}) is within {tolerance_mm:g} mm "
                f"of two slices of {a[0]}, at {own[taken[j]]:g} and {own[i]:g}; lower --tolerance-mm"
            )
        taken[j] = i
        partners.append(j)
    return partners


def _check_origins(key: str, series: Mapping[str, Series]) -> None:
    """Raise DataError where paired slices are shifted against each other in their plane."""
    names = list(series)
    for name in names[1:]:
        for a, b in zip(series[names[0]].frames, series[name].frames, strict=True):
            _check_origin(key, (names[0], a), (name, b))


def _check_origin(key: str, a: tuple[str, DicomFrame], b: tuple[str, DicomFrame]) -> None:
    first, second, normal, spacing = turned_origin(a[1]), turned_origin(b[1]), a[1].normal, a[1].spacing_mm
    if first is None or second is None or normal is None or spacing is None:
        return
    shift = second - first
    inside_mm = float(np.linalg.norm(shift - normal * np.dot(normal, shift)))
    if inside_mm > ORIGIN_PIXELS * min(spacing):
        raise DataError(
            f"{key}: {a[0]} and {b[0]} are shifted in their plane by {inside_mm:.3g} mm: origin {as_text(first)} mm in "
            f"{a[1].where}, {as_text(second)} mm in {b[1].where}; register them first"
        )
