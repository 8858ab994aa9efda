"""Repeats of one contrast, which become pairs of noisy copies: the fields NAME and NAME_second of one sample."""

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from quell.configs.errors import ConfigError, DataError
from quell.shards.image_files.dicom.headers import open_dicom
from quell.shards.image_files.dicom.series import Series
from quell.shards.listing.left_out import leave_out
from quell.shards.sources.common.contrast_pairing import Subject
from quell.shards.sources.common.contrast_slices import PERCENTILE

SECOND = "_second"
UNEQUAL = 1.1
"""Ratio of the brightness of two volumes above which they are no repeats of one contrast; chance changes the mean and
the percentile of a whole volume much less."""
SAME_TRAITS = ("image type", "echo", "b-value", "inversion time", "flip angle", "trigger time")
"""What repeats of one contrast have in common; acquisition, temporal position and series tell them apart."""
SAME_ELEMENTS = ("EchoTime", "RepetitionTime", "ScanOptions", "ScanningSequence", "KVP", "ConvolutionKernel")
"""Elements of DICOM files in which they agree, too, if both state them."""


class RepeatedSubject(NamedTuple):
    """One pair of repeats of each contrast of a patient."""

    subject: Subject
    """Its contrasts are NAME and NAME_second."""
    numbers: tuple[int, int]
    """The two repeats, counted from 0 in the order of their descriptions."""


def add_repeats_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --repeats; `what` says which images are repeats."""
    parser.add_argument(
        "--repeats",
        action="store_true",
        help=f"{what}; repeats 0 and 1, 2 and 3 and so on become the fields NAME and NAME_second of a sample, with one "
        "common scale; a last one without partner is left out",
    )


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError where --repeats would add a field that exists."""
    for name in names:
        if name + SECOND in names:
            raise ConfigError(f"--field {name}{SECOND}: --repeats makes this field from the repeats of {name}; drop it")


def pair_numbers(key: str, repeats: Mapping[str, Sequence[str]]) -> list[tuple[int, int]]:
    """The numbers of the repeats that form pairs: (0, 1), (2, 3), ...; the others are noted as left out.

    Args:
        key: The subject, for the account.
        repeats: Contrast -> a description of each of its repeats.
    """
    pairs = min(len(descriptions) for descriptions in repeats.values()) // 2
    for name, descriptions in repeats.items():
        for description in descriptions[2 * pairs :]:
            leave_out("repeat without partner", f"{key}: {name}: {description}")
    return [(2 * pair, 2 * pair + 1) for pair in range(pairs)]


def common_scales(key: str, volumes: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The scale that each field and its repeat share: the 99.5th percentile of the magnitudes of both.

    Raises:
        DataError: Two repeats differ in brightness, so that they are no repeats of one contrast.
    """
    scales: dict[str, float] = {}
    for name in [name for name in volumes if name + SECOND in volumes]:
        pair = [np.abs(volumes[name]), np.abs(volumes[name + SECOND])]
        percentiles = [np.percentile(each, PERCENTILE) for each in pair]
        for what, values in (("mean", [each.mean() for each in pair]), (f"{PERCENTILE}th percentile", percentiles)):
            low, high = sorted(map(float, values))
            if high > UNEQUAL * low:
                raise DataError(
                    f"{key}: the repeats of {name} differ in brightness ({what} of the magnitude {low:.4g} against "
                    f"{high:.4g}), so they are no repeats of one contrast; leave out the volumes that differ, or build "
                    "without --repeats"
                )
        scale = float(np.percentile(np.concatenate([each.ravel() for each in pair]), PERCENTILE)) or 1.0
        scales |= {name: scale, name + SECOND: scale}
    return scales


def find_repeats(patients: Mapping[str, Mapping[str, Sequence[Series]]], by: str) -> Iterator[RepeatedSubject]:
    """Pair the series of each contrast of each patient, in the natural order of folder and description.

    Args:
        patients: Patient -> contrast -> its series.
        by: What identifies a patient: id, folder, or auto.

    Raises:
        DataError: Series are of different contrasts; a contrast has a single one; or it is unclear whether sub-folders
            hold repeats or patients.
    """
    for patient, contrasts in patients.items():
        ordered = {name: sorted(series, key=_order) for name, series in contrasts.items()}
        for name, series in ordered.items():
            _check_repeats(patient, name, series, by)
        labels = {name: [each.label for each in series] for name, series in ordered.items()}
        for first, second in pair_numbers(patient, labels):
            chosen: dict[str, Series] = {}
            for name, series in ordered.items():
                chosen |= {name: series[first], name + SECOND: series[second]}
            yield RepeatedSubject(Subject(f"{patient}-r{first:02d}", patient, chosen), (first, second))


def _order(series: Series) -> list[tuple[int, str]]:
    """Sorts 'temporal position 10' behind 'temporal position 2'."""
    parts = re.split(r"(\d+)", f"{series.folder} {series.label}")
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _check_repeats(patient: str, name: str, series: Sequence[Series], by: str) -> None:
    if len(series) < 2:
        raise DataError(
            f"patient {patient}: {name} has a single series ({series[0].label}), where --repeats expects repeats of "
            "it; build without --repeats, or leave the patient out"
        )
    folders = sorted({each.folder for each in series})
    if by == "auto" and len(folders) > 1:
        raise DataError(
            f"patient {patient}: the series of {name} lie in several sub-folders ({', '.join(folders[:5])}); say with "
            "--patient-by id that these hold repeats of one patient, or with --patient-by folder that each is a patient"
        )
    first = _settings(series[0])
    for other in series[1:]:
        settings = _settings(other)
        for setting in [setting for setting in first if setting in settings]:
            if not _alike(first[setting], settings[setting]):
                raise DataError(
                    f"patient {patient}: the series of {name} are no repeats of one contrast: {setting} "
                    f"{', '.join(first[setting][:3])} in {series[0].label}, {', '.join(settings[setting][:3])} in "
                    f"{other.label}; choose those of one contrast with --series '{name}=TEXT', where TEXT is a part of "
                    "their descriptions"
                )


def _settings(series: Series) -> dict[str, list[str]]:
    """How a series was acquired: its values of SAME_TRAITS, and those of SAME_ELEMENTS in its first file."""
    found = {trait: sorted({dict(frame.traits).get(trait, "none") for frame in series.frames}) for trait in SAME_TRAITS}
    data = open_dicom(series.frames[0].path, with_pixels=False)
    return found | {name: [str(data.get(name))] for name in SAME_ELEMENTS if data.get(name) not in (None, "")}


def _alike(a: list[str], b: list[str]) -> bool:
    """Whether values are the same, numbers to a hundredth."""
    try:
        pairs = [(float(first), float(second)) for first, second in zip(a, b, strict=True)]
    except ValueError:  # words, or not as many
        return a == b
    return all(math.isclose(first, second, rel_tol=0.01) for first, second in pairs)
