"""Contact sheets: a few samples of a split, field beside field, as one picture."""

import numpy as np
from PIL import Image

from quell.shards.reading.shard_set import ShardSet

THUMBNAIL_PX = 160
ROWS = 4
WHITE_PERCENTILE = 99.5
"""The percentile of an image's magnitudes that is shown as white."""


def contact_sheet(shards: ShardSet, rows: int = ROWS) -> Image.Image:
    """Show samples spread evenly over the split from top to bottom, their fields from left to right (magnitudes).

    Fields with the same stem (pd, pd_clean, pd_second) share the grey scale of the first of them.
    """
    samples = np.unique(np.linspace(0, len(shards) - 1, min(rows, len(shards))).astype(int)).tolist()
    fields = [field for field, info in shards.fields.items() if info.count == len(shards)]
    strips = [_strip(shards, sample, fields) for sample in samples]
    sheet = Image.new("RGB", (THUMBNAIL_PX * max(len(fields), 1), sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def thumbnail(image: np.ndarray, white: float) -> Image.Image:
    """A thumbnail of at most THUMBNAIL_PX a side; values of `white` and above become white."""
    values = np.clip(image.astype(np.float64) / white * 255, 0, 255).astype(np.uint8)
    if values.ndim == 3 and values.shape[2] != 3:
        values = values[:, :, 0]
    picture = Image.fromarray(values).convert("RGB")
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return picture


def _strip(shards: ShardSet, sample: int, fields: list[str]) -> Image.Image:
    """The fields of one sample side by side."""
    whites: dict[str, float] = {}
    thumbnails = []
    for field in fields:
        image = shards.read(sample, field, verify=False)
        image = np.abs(image) if image.dtype.kind == "c" else image
        finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
        white = float(np.percentile(finite, WHITE_PERCENTILE)) if finite.size else 1.0
        white = whites.setdefault(field.split("_")[0], white)
        thumbnails.append(thumbnail(np.nan_to_num(image), 255 if image.dtype == np.uint8 else white or 1.0))
    height = max((picture.height for picture in thumbnails), default=1)
    strip = Image.new("RGB", (THUMBNAIL_PX * max(len(thumbnails), 1), height))
    for column, picture in enumerate(thumbnails):
        strip.paste(picture, (column * THUMBNAIL_PX, 0))
    return strip
