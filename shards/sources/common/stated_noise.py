"""What k-space states about the noise of the images built from it: `stated_noise.npz` beside the splits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.shards.image_files.fastmri import read_combined
from quell.shards.reading.shard_set import ShardSet

FILE = "stated_noise.npz"


def write(split: Path, scans: Mapping[str, Path]) -> None:
    """Write the noise of a split's images if its samples state one (`noise_sigma`).

    Volumes are scaled one by one, so that the level differs between them: the model holds the median, every sample its
    own. The spectrum is that of the measured part of k-space, which is alike in all scans of a protocol.

    Args:
        split: A complete split; the file is written to the folder above it.
        scans: Field -> a file whose k-space is typical.
    """
    shards = ShardSet.open(split)
    levels: dict[str, list[float]] = {name: [] for name in scans}
    for sample in range(len(shards)):
        stated = shards.json(sample).get("noise_sigma")
        if isinstance(stated, dict):
            for name in scans:
                levels[name].append(float(stated[name]))
    shards.files.close()
    if not all(levels.values()):
        return
    fields = {}
    for name, path in scans.items():
        spectrum = read_combined(path).spectrum
        is_white = np.ptp(spectrum) < 1e-9
        fields[name] = FieldNoise(float(np.median(levels[name])), None if is_white else spectrum)
    notes = {
        f"{name}.spread": f"{min(values):.4g} to {max(values):.4g} between volumes" for name, values in levels.items()
    }
    NoiseModel(fields, "k-space", notes).save(split.parent / FILE)
