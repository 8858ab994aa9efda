"""The description of a data set for its readers: `dataset.md`, and `preview.png` beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from quell.configs.support.atomic_files import naming, write_atomically
from quell.configs.support.secrets import mask
from quell.shards.building.description.contact_sheet import contact_sheet
from quell.shards.format.index import FieldEntry, FieldStatistics, IndexHeader
from quell.shards.listing import left_out
from quell.shards.listing.left_out import LeftOut
from quell.shards.reading.shard_set import ShardSet

NOTES = ("data_range", "sigma", "noise", "source", "licence")
"""Notes that every data set may have: `data_range` and `sigma` in stored units, the others in words."""

NOT_LISTED = ("licence", "plan", "left_out")
"""Notes that the card has elsewhere, or that say nothing to a reader."""


def write(
    output: Path, name: str, headers: Mapping[str, IndexHeader], entries: Mapping[str, Sequence[LeftOut]]
) -> None:
    """Write the card and the preview of the splits in `output`; `entries` is what was left out, by split."""
    first = next(iter(headers))
    shards = ShardSet.open(output / first)
    with naming(output / "preview.png"):
        contact_sheet(shards).save(output / "preview.png")
    shards.files.close()
    write_atomically(output / "dataset.md", mask("\n".join(_lines(name, headers, entries))) + "\n")


def _lines(name: str, headers: Mapping[str, IndexHeader], entries: Mapping[str, Sequence[LeftOut]]) -> Iterator[str]:
    """The card in Markdown. Fields, statistics and notes are those of the first split."""
    first, header = next(iter(headers.items()))
    yield f"# {name}\n"
    yield f"Licence: {header['meta'].get('licence', 'not stated; see where the data comes from')}\n"
    yield "![samples by row, fields by column](preview.png)\n"
    yield "| split | samples | shards | MB |"
    yield "| --- | --- | --- | --- |"
    for split, described in headers.items():
        megabytes = sum(shard["size"] for shard in described["shards"]) / 1e6
        yield f"| {split} | {described['samples']} | {len(described['shards'])} | {megabytes:.1f} |"
    yield "\n| field | dtype | size, pixels | channels | range | mean | std |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for field, entry in header["fields"].items():
        yield _field_row(field, entry, header["statistics"].get(field))
    yield f"\nStatistics of {first}, in stored units; of the magnitude where complex.\n"
    yield from (f"- {key}: {value}" for key, value in header["meta"].items() if key not in NOT_LISTED)
    sentences = left_out.sentences(entry for of_split in entries.values() for entry in of_split)
    if sentences:
        yield "\n## Left out\n"
        yield from (f"- {sentence}" for sentence in sentences)
        yield "\n`build.json` lists all of them."


def _field_row(field: str, entry: FieldEntry, statistics: FieldStatistics | None) -> str:
    if entry["shape"]:
        size = " x ".join(map(str, entry["shape"][:2]))
    else:
        size = "varies, at least " + " x ".join(map(str, entry["smallest"]))
    span, mean, std = "", None, None
    if statistics is not None:
        span, mean, std = f"{statistics['min']} .. {statistics['max']}", statistics["mean"], statistics["std"]
    return f"| {field} | {entry['dtype']} | {size} | {entry['channels']} | {span} | {mean} | {std} |"
