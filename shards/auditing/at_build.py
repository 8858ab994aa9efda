"""The noise section of a new data set's card, and its noise model in `noise.npz`: a quick look at a few samples."""

from pathlib import Path

import numpy as np

from quell.configs.errors import DataError, MachineError
from quell.losses.noise.audit import audit_noise
from quell.shards.auditing import noise_report
from quell.shards.auditing.sampled_fields import noisy_fields, read_fields
from quell.shards.reading.shard_set import ShardSet

SAMPLES, LARGEST_PX = 6, 256
"""Samples that are read, and the side to which they are cropped: a build must not wait for this."""
SMALLEST_PX = 96
"""Sets with smaller images have no section: `python -m shards.noise` looks at all of them longer."""
FILE = "noise.npz"


def describe(output: Path, split: str) -> None:
    """Append the section to `dataset.md` and write the model, from one split; say why where there is none."""
    shards = ShardSet.open(output / split)
    try:
        fields = noisy_fields(shards)
        smallest = min((min(shards.shape(0, name)[:2]) for name in fields), default=0)
        if smallest < SMALLEST_PX:
            return
        with np.errstate(all="ignore"):
            audit = audit_noise(read_fields(shards, fields, samples=SAMPLES, largest_px=LARGEST_PX))
        lines = noise_report.markdown(audit, f"{min(SAMPLES, len(shards))} samples of {split}")
        audit.model.save(output / FILE)
    except (DataError, ArithmeticError, ValueError) as error:
        # Not even images that no estimate was made for may stop a build.
        lines = [f"Not measured: {error}"]
    except OSError as error:
        raise MachineError(f"{output / FILE}: cannot be written ({error.strerror or error})") from error
    finally:
        shards.files.close()
    with open(output / "dataset.md", "a", encoding="utf-8") as card:
        card.write("\n".join(["", "## Noise", "", *lines]) + "\n")
