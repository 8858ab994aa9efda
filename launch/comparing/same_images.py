"""Refusing to compare runs that were not measured on the same images in the same way."""

import math
from collections.abc import Mapping, Sequence

from quell.configs.errors import DataError
from quell.launch.comparing.reports import RunReport
from quell.shards.format.fingerprint import same_content

TOLERANCE = 1e-3
"""Relative difference that rounding may cause between measurements of the same noisy image on different devices."""


def shared_members(reports: Sequence[RunReport]) -> list[str]:
    """The noisy members that every run restores, in the order of the first; DataError where there is none."""
    members = [name for name in reports[0].restored if all(name in report.restored for report in reports)]
    if not members:
        listed = "; ".join(f"{report.name}: {', '.join(report.restored)}" for report in reports)
        raise DataError(f"these runs have no noisy image in common that all of them restore ({listed}): compare others")
    return members


def refuse_different_images(reports: Sequence[RunReport], members: Sequence[str]) -> None:
    """DataError where a report was not made of the same images as the first, in one sentence that says what differs."""
    first = reports[0]
    for other in reports[1:]:
        names = f"{first.file} and {other.file}"
        advice = "evaluate both alike with `quell evaluate`"
        if not same_content(first.content["fingerprint"], str(other.content["fingerprint"])):
            raise DataError(
                f"{names} are of different images ({first.content['data']} and {other.content['data']} hold other "
                f"shards): {advice} --data DIR --split NAME"
            )
        if first.content["data_range"] != other.content["data_range"]:
            ranges = f"{first.content['data_range']:g} and {other.content['data_range']:g}"
            raise DataError(f"{names} were measured with the data ranges {ranges}: {advice}")
        if first.config.data.resize != other.config.data.resize:
            sizes = f"{first.config.data.resize} and {other.config.data.resize}"
            raise DataError(f"{names} are of images of other sizes (data.resize is {sizes}): compare runs of one size")
        if set(first.keys) != set(other.keys):
            raise DataError(
                f"{names} are of {len(first.keys)} and {len(other.keys)} samples, of which "
                f"{len(set(first.keys) & set(other.keys))} are the same: {advice} with one --limit"
            )
        for member in members:
            cleans = first.clean_members[member], other.clean_members[member]
            if cleans[0] != cleans[1]:
                raise DataError(f"{names} compare '{member}' with {cleans[0]} and {cleans[1]}: {advice} (data.fields)")
            _refuse_other_noisy_images(first, other, member, advice)
        if changed := next((key for key in first.keys if first.references[key] != other.references[key]), None):
            kinds = f"{first.references[changed]} and {other.references[changed]}"
            raise DataError(f"{names} compare {changed} with its {kinds}: {advice}")


def _refuse_other_noisy_images(first: RunReport, other: RunReport, member: str, advice: str) -> None:
    """DataError where the same noisy image scores differently: it was read, resized or measured differently."""
    ours, theirs = first.noisy.get(member, {}), other.noisy.get(member, {})
    for metric in ours.keys() & theirs.keys():
        if key := first_difference(ours[metric], theirs[metric]):
            raise DataError(
                f"{first.file} and {other.file} measure {metric} of the noisy '{member}' of {key} as "
                f"{ours[metric][key]:.4g} and {theirs[metric][key]:.4g}, so it was read, resized or measured "
                f"differently: {advice}"
            )


def first_difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str | None:
    """The first sample of which two measurements are finite and differ by more than rounding; None if none does."""
    for key, value in ours.items():
        another = theirs.get(key, math.nan)
        both_finite = math.isfinite(value) and math.isfinite(another)
        if both_finite and not math.isclose(value, another, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            return key
    return None
