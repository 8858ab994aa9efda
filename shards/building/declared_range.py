"""The data range of a data set that is being built: taken from the files, or compared with the images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.configs.support import logs
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import AUTO
from quell.shards.building.read_items import Change, load_item
from quell.shards.checks.data_range import FAR_TOO_HIGH, Proposal, Span, contradiction, propose, span_of
from quell.shards.format.index import Meta

ITEMS = 6
"""Items, spread over the data set, that are looked at before the first is written."""
SAMPLES = 8
"""Samples of each that are looked at, spread over it."""

log = logs.get_logger(__name__)


class Settled(NamedTuple):
    """The outcome."""

    meta: Meta
    """The notes, whose data_range is a number."""
    check: Change | None
    """Compares each sample with it."""


class _Seen(NamedTuple):
    """What the samples that were looked at hold."""

    spans: dict[str, list[Span]]
    """By field."""
    stated: dict[tuple[float, str], str]
    """Range and reason as files state them -> the first sample that does."""


def settle(
    meta: Meta,
    splits: Mapping[str, Sequence[WorkItem]],
    *,
    trust: bool = False,
    skip_damaged: bool = False,
    is_choosable: bool = True,
) -> Settled:
    """Resolve `--data-range auto`, and refuse a declared range that the images contradict.

    Images that are generated, or that a window of Hounsfield units has brought to [0, 1], are not looked at.

    Args:
        meta: The notes on the data set; `data_range` is a number, 'auto', or missing.
        splits: Split -> its items.
        trust: Take the declared range as it is.
        skip_damaged: Pass over items that cannot be read.
        is_choosable: Whether the source has the argument --data-range.

    Raises:
        DataError: The images contradict the range, or do not tell one.
    """
    declared = meta.get("data_range")
    items = [item for of_split in splits.values() for item in of_split if item.files]
    if declared is None or not items or "window_hu" in meta or (trust and declared != AUTO):
        return Settled(meta, None)
    chosen = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, ITEMS).astype(int))]
    seen = _look(chosen, skip_damaged)
    if declared == AUTO:
        proposal = _from_files(seen)
        log.info("data range: %g (%s)", proposal.value, proposal.reason)
        meta = {**meta, "data_range": proposal.value, "data_range_from": proposal.reason}
        return Settled(meta, None if trust else _checking(proposal.value))
    assert isinstance(declared, int | float)
    is_normalised = "divided by" in str(meta.get("units", ""))
    for field, spans in seen.spans.items():
        problem = contradiction(float(declared), spans, is_normalised=is_normalised)
        if problem is not None:
            told = _refusal(
                field, float(declared), problem, seen, is_normalised=is_normalised, is_choosable=is_choosable
            )
            raise DataError(told)
    return Settled(meta, _checking(float(declared)))


def _look(items: Sequence[WorkItem], skip_damaged: bool) -> _Seen:
    seen = _Seen({}, {})
    for item in items:
        try:
            samples = load_item(item)
        except DataError:
            if skip_damaged:
                continue
            raise
        for i in np.unique(np.linspace(0, len(samples) - 1, SAMPLES).astype(int)) if samples else ():
            sample = samples[i]
            for field, image in _arrays(sample):
                seen.spans.setdefault(field, []).append(span_of(image))
            if sample.suggested_range is not None:
                seen.stated.setdefault(sample.suggested_range, sample.key)
    return seen


def _arrays(sample: Sample) -> list[tuple[str, np.ndarray]]:
    """The fields that hold numbers without NaN and Inf, which are refused elsewhere."""
    return [
        (name.removesuffix(".npy"), value)
        for name, value in sample.members.items()
        if isinstance(value, np.ndarray) and value.ndim >= 2 and value.size and np.isfinite(value).all()
    ]


def _from_files(seen: _Seen) -> Proposal:
    """The range that the files state, else the one that their whole numbers tell."""
    if len({value for value, _ in seen.stated}) > 1:
        (first, first_why), (second, second_why), *_ = seen.stated
        keys = list(seen.stated.values())
        raise DataError(
            f"--data-range auto: the files state different ranges, {first:g} ({first_why}, {keys[0]}) and {second:g} "
            f"({second_why}, {keys[1]}); bring them to one scale, or give the range as a number"
        )
    spans = [span for of_field in seen.spans.values() for span in of_field]
    if seen.stated:
        value, reason = next(iter(seen.stated))
        problem = contradiction(value, spans)  # a display window may be narrow, and more bits declared than are used
        if problem is None:
            return Proposal(value, reason)
        log.info("data range: not %g (%s), because %s", value, reason, problem)
    proposal = propose(spans)
    if proposal is None or not all(span.is_whole for span in spans):
        told = f"; they hold {proposal.reason}, so --data-range {proposal.value:g} may be right" if proposal else ""
        raise DataError(f"--data-range auto: these files do not state the range of their values{told}")
    return proposal


def _refusal(field: str, declared: float, problem: str, seen: _Seen, *, is_normalised: bool, is_choosable: bool) -> str:
    values = {value for value, _ in seen.stated}
    proposal = propose(seen.spans[field])
    value = values.pop() if len(values) == 1 else proposal.value if proposal else declared
    remedy = f"declare --data-range {value:.6g}, or --data-range auto"
    if is_normalised:
        remedy = "keep the units of the files (--keep-units), where the source can"
    elif not is_choosable:
        remedy = f"bring them to a range of {declared:g}, since this source adds noise of a level relative to it"
    return (
        f"{field}: the images contradict the data range {declared:g}: {problem}; PSNR and SSIM would be wrong without "
        f"a word: {remedy}, or --trust-data-range to keep {declared:g}"
    )


def _checking(declared: float) -> Change:
    """Refuses a sample whose scale is another one than that of the samples which were looked at."""

    def check(item: WorkItem, sample: Sample) -> Sample:
        for field, image in _arrays(sample):
            span = span_of(image)
            if span.high > FAR_TOO_HIGH * declared:
                raise DataError(
                    f"{item.key}: sample {sample.key}: {field} usually reaches {span.high:.4g}, although the data "
                    f"range is {declared:g}; bring all files to one scale, or give --trust-data-range"
                )
        return sample

    return check
