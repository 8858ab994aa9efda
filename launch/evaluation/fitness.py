"""What can be known about an evaluation before it begins: whether images are large enough and fit their data range."""

from collections.abc import Mapping

import numpy as np

from quell.configs.errors import DataError
from quell.configs.fields import Needs
from quell.configs.schema import DataConfig
from quell.launch.data.fields import available_fields, resized_to
from quell.launch.evaluation.measuring.metrics import Metric
from quell.pipelines.base import Output
from quell.shards.checks.data_range import Span, contradiction, span_of
from quell.shards.reading.shard_set import ShardSet

LOOKED_AT = 8
"""Images of each field, spread over the split, whose values are compared with the data range."""
SCALES_APART = 8.0
"""A noisy image whose usual high value differs from that of its clean image by this factor is on another scale."""


def refuse_small_images(
    outputs: Mapping[str, Output], metrics: Mapping[str, Metric], needs: Needs, data: DataConfig, shards: ShardSet
) -> None:
    """Raise DataError where an image of the split is smaller than a metric can be computed of.

    Args:
        outputs: What the method restores, each with the names of its noisy and clean field.
        metrics: What is to be computed.
        needs: What the method reads.
        data: Which members of the shards hold its fields.
        shards: The split that is to be evaluated.
    """
    members = {name: source.member for name, source in available_fields(needs, data, shards).items()}
    for output in outputs.values():
        has_reference = any(name in members for name in output.references)
        height, width = resized_to(data) or shards.fields[members[output.noisy]].smallest
        for name, metric in metrics.items():
            if min(height, width) >= metric.smallest_px or (metric.needs_clean and not has_reference):
                continue
            raise DataError(
                f"{shards.path}: images of field '{output.noisy}' go down to {height} x {width} px, but "
                f"{name.upper()} needs at least {metric.smallest_px} px a side; leave this metric or these images out, "
                "or build the shards with --resize"
            )


def range_problems(
    outputs: Mapping[str, Output],
    needs: Needs,
    data: DataConfig,
    shards: ShardSet,
    data_range: float,
) -> list[str]:
    """Sentences about noisy and clean images that do not fit the data range, or each other; empty if all is well.

    A few images of each field are read; those that cannot be are passed over, the evaluation will name them.
    """
    members = {name: source.member for name, source in available_fields(needs, data, shards).items()}
    wanted = {name for output in outputs.values() for name in (output.noisy, *output.references) if name in members}
    spans = {name: _spans(shards, members[name]) for name in sorted(wanted)}
    is_normalised = "divided by" in str(shards.meta.get("units", ""))
    problems = []
    for name, of_field in spans.items():
        problem = contradiction(data_range, of_field, is_normalised=is_normalised or "window_hu" in shards.meta)
        if problem is not None:
            problems.append(
                f"field '{name}' does not fit the data range {data_range:g} of {shards.path}: {problem}; PSNR and SSIM "
                f"mean nothing until it is corrected (python -m shards.inspect DIR --set data_range=R)"
            )
    for output in outputs.values():
        pair = next(((output.noisy, name) for name in output.references if name in members), None)
        if pair is not None and (ratio := _ratio(*(spans[name] for name in pair))) is not None:
            problems.append(
                f"fields '{pair[0]}' and '{pair[1]}' of {shards.path} are on different scales: the values of one are "
                f"usually {ratio:.3g} times those of the other"
            )
    return problems


def _spans(shards: ShardSet, member: str) -> list[Span]:
    count = len(shards)
    spans = []
    for sample in np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int)).tolist():
        try:
            image = shards.read(sample, member)
        except DataError:
            continue
        spans.append(span_of(image))
    return spans


def _ratio(first: list[Span], second: list[Span]) -> float | None:
    """By how much the usual high values of two fields differ, where that is too much."""
    if not first or not second:
        return None
    low, high = sorted(float(np.median([span.high for span in spans])) for spans in (first, second))
    return high / low if 0 < low * SCALES_APART < high else None
