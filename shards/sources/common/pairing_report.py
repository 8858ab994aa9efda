"""The report on paired volumes that a person reviews before shards are built."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from quell.configs.support.atomic_files import write_atomically
from quell.shards.building.description.contact_sheet import THUMBNAIL_PX, WHITE_PERCENTILE, thumbnail
from quell.shards.image_files.fastmri import FastmriVolume, read_magnitude
from quell.shards.sources.common.volume_pairing import VolumePair

MAX_ROWS = 24
"""Pairs shown in the picture, those with the lowest scores."""


def write_report(
    output: Path, pairs: Sequence[VolumePair], volumes: Sequence[FastmriVolume], least_score: float
) -> None:
    """Write pairing.csv, pairing.json and pairing.png.

    The CSV can be corrected and passed as --pairs; the JSON also lists the volumes without a partner; the picture shows
    the middle slices of the least similar pairs.
    """
    output.mkdir(parents=True, exist_ok=True)
    used = {volume.path for pair in pairs for volume in (pair.pd, pair.pdfs)}
    rows = [
        {
            "pd": pair.pd.path.stem,
            "pdfs": pair.pdfs.path.stem,
            "score": round(pair.score, 4),
            "runner_up": None if np.isnan(pair.runner_up) else round(pair.runner_up, 4),
            "offset": pair.offset,
            "slices": len(pair.slices),
            "doubtful": pair.is_doubtful(least_score),
        }
        for pair in pairs
    ]
    lines = ["pd,pdfs,score", *(f"{row['pd']},{row['pdfs']},{row['score']}" for row in rows)]
    write_atomically(output / "pairing.csv", "\n".join(lines) + "\n")
    unpaired = sorted(volume.path.stem for volume in volumes if volume.path not in used)
    report = {"least_score": least_score, "pairs": rows, "left_over": unpaired}
    write_atomically(output / "pairing.json", json.dumps(report, indent=1) + "\n")
    if pairs:
        _picture(sorted(pairs, key=lambda pair: pair.score)[:MAX_ROWS]).save(output / "pairing.png")


def _picture(pairs: Sequence[VolumePair]) -> Image.Image:
    """The middle slices of pairs, one pair a row, PD left and PDFS right."""
    picture = Image.new("RGB", (THUMBNAIL_PX * 2, THUMBNAIL_PX * len(pairs)))
    for row, pair in enumerate(pairs):
        middle = pair.slices[len(pair.slices) // 2]
        for column, (volume, number) in enumerate(((pair.pd, middle), (pair.pdfs, middle + pair.offset))):
            image = read_magnitude(volume.path, [number])[0]
            white = float(np.percentile(image, WHITE_PERCENTILE)) or 1.0
            picture.paste(thumbnail(image, white), (column * THUMBNAIL_PX, row * THUMBNAIL_PX))
    return picture
