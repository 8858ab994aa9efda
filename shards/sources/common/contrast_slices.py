"""Cutting volumes of co-registered contrasts into slices with a common scale."""

import argparse
from collections.abc import Iterable, Mapping

import numpy as np

from quell.configs.errors import DataError
from quell.shards.building.items import Sample
from quell.shards.building.options import AUTO, add_data_range_argument
from quell.shards.format.index import Meta
from quell.shards.image_files.image import DataRange, StoredImage, suggested_data_range
from quell.shards.listing.finite import check_finite
from quell.shards.listing.left_out import leave_out

KEPT_UNITS = "those of the files"
PERCENTILE = 99.5
UNITS = "each volume divided by its 99.5th percentile"
BRIGHT = 0.1
"""Pixels above this share of the scale count as content."""


def add_content_argument(parser: argparse.ArgumentParser, default: float) -> None:
    """Add --least-content."""
    parser.add_argument(
        "--least-content",
        type=float,
        default=default,
        metavar="F",
        help="skip slices in which less than this fraction of the pixels of any contrast is brighter than a tenth of "
        f"its 99.5th percentile (default {default:g})",
    )


def add_units_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --keep-units and --data-range."""
    parser.add_argument(
        "--keep-units",
        action="store_true",
        help="store the values of the files, such as Hounsfield units, instead of dividing each volume by its "
        f"{PERCENTILE}th percentile",
    )
    add_data_range_argument(parser, None, required=False, explained="1; auto with --keep-units")


def units_notes(args: argparse.Namespace) -> Meta:
    """The notes on units and data range that follow from the arguments of `add_units_arguments`."""
    usual = AUTO if args.keep_units else 1.0
    return {
        "data_range": usual if args.data_range is None else args.data_range,
        "units": KEPT_UNITS if args.keep_units else UNITS,
    }


def stated_range(volumes: Iterable[StoredImage]) -> DataRange | None:
    """The data range that the files of one subject state, if all of them state the same."""
    stated = {suggested_data_range(volume) for volume in volumes}
    return stated.pop() if len(stated) == 1 else None


def slice_samples(
    key: str,
    volumes: Mapping[str, np.ndarray],
    *,
    least_content: float = 0.0,
    keep_units: bool = False,
    suggested_range: tuple[float, str] | None = None,
    scales: Mapping[str, float] | None = None,
    notes: Mapping[str, object] | None = None,
) -> list[Sample]:
    """Cut the contrasts of one subject into slices.

    Each volume is divided by the 99.5th percentile of its magnitude; slices in which less than `least_content` of the
    pixels of any contrast exceed BRIGHT afterwards are left out.

    Args:
        key: Key of the subject; the number of the slice is appended for each sample.
        volumes: Contrast -> volume (slices, H, W), real or complex.
        least_content: A fraction, 0 to 1.
        keep_units: Whether to store the values as they are; the content is judged as if they were divided.
        suggested_range: The data range that the files state, see `Sample`.
        scales: Contrast -> its divisor, where it is not the percentile of the contrast itself.
        notes: Metadata of all samples.

    Returns:
        Samples with a field for each contrast, float32 or complex64, and the divisors noted as `scales`.

    Raises:
        DataError: The volumes differ in shape.
    """
    shapes = {name: volume.shape for name, volume in volumes.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise DataError(
            f"{key}: expected contrasts of one shape (slices, H, W), got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
    for name, volume in volumes.items():
        check_finite(volume, f"{key}: {name}")
    if scales is None:
        scales = {name: float(np.percentile(np.abs(volume), PERCENTILE)) or 1.0 for name, volume in volumes.items()}
    samples = []
    for number in range(len(next(iter(volumes.values())))):
        images = {name: volume[number] / scales[name] for name, volume in volumes.items()}
        contents = {name: float((np.abs(image) > BRIGHT).mean()) for name, image in images.items()}
        darkest = min(contents, key=lambda name: contents[name])
        if contents[darkest] < least_content:
            why = f"content of {darkest} {contents[darkest]:.3f}, less than {least_content:g}"
            leave_out("dark slice", f"{key}-{number:03d}", why)
        else:
            chosen = {name: volume[number] for name, volume in volumes.items()} if keep_units else images
            fields = {
                name: image.astype(np.complex64 if image.dtype.kind == "c" else np.float32)
                for name, image in chosen.items()
            }
            own = {"slice": number} if keep_units else {"slice": number, "scales": dict(scales)}
            stated = suggested_range if keep_units else None
            samples.append(
                Sample.of_arrays(f"{key}-{number:03d}", fields, suggested_range=stated, **own, **(notes or {}))
            )
    return samples
