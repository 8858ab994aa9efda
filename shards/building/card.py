"""What a data set is, for people: `dataset.md` and a contact sheet `preview.png`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from shards.format.index import IndexHeader
from shards.reading.shard_set import ShardSet

THUMB_PX = 160
ROWS = 4
NOTES = ("data_range", "sigma", "noise", "source", "licence")
"""What a data set may say of itself in any case: `data_range` and `sigma` in stored units, the others in words."""


def write(output: Path, name: str, headers: dict[str, IndexHeader]) -> None:
    """Write the card and the preview of the splits below `output`."""
    first = next(iter(headers))
    shards = ShardSet.open(output / first)
    preview(shards).save(output / "preview.png")
    shards.files.close()
    (output / "dataset.md").write_text(text(name, headers), encoding="utf-8")


def preview(shards: ShardSet, rows: int = ROWS) -> Image.Image:
    """A contact sheet: samples spread evenly from top to bottom, fields from left to right (magnitudes).

    Fields of one stem (pd, pd_clean, pd_second) share the grey scale of the first of them.
    """
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(rows, len(shards))).astype(int)).tolist()
    fields = [field for field, info in shards.fields.items() if info.count == len(shards)]
    strips = [_strip(shards, sample, fields) for sample in chosen]
    sheet = Image.new("RGB", (THUMB_PX * max(len(fields), 1), sum(strip.height for strip in strips)))
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(shards: ShardSet, sample: int, fields: list[str]) -> Image.Image:
    """The fields of one sample side by side."""
    tops: dict[str, float] = {}
    thumbs = []
    for field in fields:
        image = shards.read(sample, field, verify=False)
        image = np.abs(image) if image.dtype.kind == "c" else image
        finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
        top = tops.setdefault(field.split("_")[0], float(np.percentile(finite, 99.5)) if finite.size else 1.0)
        thumbs.append(thumbnail(np.nan_to_num(image), 255 if image.dtype == np.uint8 else top or 1.0))
    strip = Image.new("RGB", (THUMB_PX * max(len(thumbs), 1), max((thumb.height for thumb in thumbs), default=1)))
    for column, thumb in enumerate(thumbs):
        strip.paste(thumb, (column * THUMB_PX, 0))
    return strip


def thumbnail(image: np.ndarray, top: float) -> Image.Image:
    """A square thumbnail; `top` becomes white."""
    shown = np.clip(image.astype(np.float64) / top * 255, 0, 255).astype(np.uint8)
    if shown.ndim == 3 and shown.shape[2] != 3:
        shown = shown[:, :, 0]
    picture = Image.fromarray(shown).convert("RGB")
    picture.thumbnail((THUMB_PX, THUMB_PX))
    return picture


def text(name: str, headers: dict[str, IndexHeader]) -> str:
    """The card in Markdown."""
    meta = next(iter(headers.values()))["meta"]
    lines = [
        f"# {name}",
        "",
        f"Licence: {meta.get('licence', 'not stated; see where the data comes from')}",
        "",
        "![samples by row, fields by column](preview.png)",
        "",
        "| split | samples | shards | MB |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {split} | {header['samples']} | {len(header['shards'])} | "
        f"{sum(shard['size'] for shard in header['shards']) / 1e6:.1f} |"
        for split, header in headers.items()
    ]
    lines += [
        "",
        "| field | dtype | size, pixels | channels | range | mean | std |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    header = next(iter(headers.values()))
    for field, info in header["fields"].items():
        numbers: Mapping[str, object] = header["statistics"].get(field, {})
        size = (
            " x ".join(map(str, info["shape"][:2]))
            if info["shape"]
            else "mixed, from " + " x ".join(map(str, info["smallest"]))
        )
        lines.append(
            f"| {field} | {info['dtype']} | {size} | {info['channels']} | {numbers.get('min')} .. "
            f"{numbers.get('max')} | {numbers.get('mean')} | {numbers.get('std')} |"
        )
    lines += ["", f"Statistics are of {next(iter(headers))}, stored units, magnitudes where complex.", ""]
    lines += [f"- {key}: {value}" for key, value in meta.items() if key not in ("licence", "plan")]
    return "\n".join(lines) + "\n"
