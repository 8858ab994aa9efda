"""Volumes of co-registered contrasts -> slices in one scale, for the sources that read volumes."""

from pathlib import Path

import numpy as np

from configs.errors import ConfigError, DataError
from shards.building import assemble

PERCENTILE = 99.5


def fields(arguments: list[str]) -> dict[str, Path]:
    """NAME=PATH arguments as a mapping. Raises ConfigError."""
    found: dict[str, Path] = {}
    for argument in arguments:
        name, equals, where = argument.partition("=")
        if not equals or not name.isidentifier() or name in found:
            raise ConfigError(f"--field {argument}: expected NAME=PATH, each name once")
        found[name] = Path(where)
    return found


def slices(
    key: str, volumes: dict[str, np.ndarray], *, least_content: float = 0.0, scale: bool = True
) -> list[assemble.Sample]:
    """Samples of a dict of volumes (slices, H, W): each volume divided by its 99.5th percentile of magnitude, slices
    left out where less than `least_content` of the pixels of any volume exceed a tenth of that.

    Raises DataError when the volumes differ in shape.
    """
    shapes = {name: volume.shape for name, volume in volumes.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 3 for shape in shapes.values()):
        raise DataError(
            f"{key}: contrasts of one shape (slices, H, W) expected, found "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
    scales = {
        name: (float(np.percentile(np.abs(volume), PERCENTILE)) or 1.0) if scale else 1.0
        for name, volume in volumes.items()
    }
    samples = []
    for number in range(len(next(iter(volumes.values())))):
        parts = {name: volume[number] / scales[name] for name, volume in volumes.items()}
        if all((np.abs(image) > 0.1).mean() >= least_content for image in parts.values()):
            stored = {
                name: image.astype(np.complex64 if image.dtype.kind == "c" else np.float32)
                for name, image in parts.items()
            }
            samples += assemble.one(f"{key}-{number:03d}", stored, slice=number, scales=scales)
    return samples
