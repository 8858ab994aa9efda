"""Show what a data set of shards holds: `python -m shards.inspect DIR [--samples N] [--preview FILE]`.

`--set data_range=1.0` writes a note into the index of every split below DIR, for tars that came without one. Notes are
those that any data set may have (shards/building/description/dataset_card.py) and those that the index already has.
"""

import argparse
import json
import math
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.errors import ConfigError, MachineError, run_command
from quell.configs.support.arguments import CommandParser, whole_number
from quell.configs.support.json_files import parse_json
from quell.configs.support.secrets import mask
from quell.configs.support.suggestions import did_you_mean
from quell.shards.building.description.contact_sheet import contact_sheet
from quell.shards.building.description.dataset_card import NOTES
from quell.shards.format import index
from quell.shards.format.index import IndexHeader
from quell.shards.reading.shard_set import ShardSet


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = CommandParser(prog="python -m shards.inspect", description=__doc__.split(":")[0])
    parser.add_argument("folder", help="a split, or the folder that holds the splits")
    parser.add_argument("--samples", type=whole_number(0), default=3, help="samples listed per split (default 3)")
    parser.add_argument("--preview", metavar="PNG", help="write a contact sheet of the first split to this file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"write this note into the index of every split, e.g. data_range=1.0: {', '.join(NOTES)}, or "
        "a note that the index already has",
    )
    args = parser.parse_args(arguments)
    return run_command(lambda: _inspect(args))


def _inspect(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    splits = [folder] if any(folder.glob("*.tar")) else sorted(path.parent for path in folder.glob("*/*.tar"))
    if not splits:
        index.tars(folder)  # raises with what is wrong with the folder
    for number, split in enumerate(dict.fromkeys(splits)):
        shards = ShardSet.open(split)
        if args.set:
            shards = _annotated(shards, args.set)
        print(describe(shards, args.samples))
        if args.preview and number == 0:
            _save_preview(shards, Path(args.preview))
        shards.files.close()
    return 0


def _annotated(shards: ShardSet, notes: list[str]) -> ShardSet:
    """The same split after KEY=VALUE notes were written into its index."""
    path = shards.index_path / index.HEADER
    header: IndexHeader = json.loads(path.read_text(encoding="utf-8"))
    known = sorted({*NOTES, *header["meta"]} - {"plan"})  # `plan` is how a build recognises its own work
    for note in notes:
        key, equals, value = note.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {note}: expected KEY=VALUE")
        if key not in known:
            raise ConfigError(f"--set {note}: {shards.path} cannot have this note; {did_you_mean(key, known)}")
        header["meta"][key] = _value(key, value)
    try:
        index.write_header(shards.index_path, header)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error
    shards.files.close()
    return ShardSet.open(str(shards.path))


def _value(key: str, text: str) -> object:
    """A note's value: parsed as JSON where it is (numbers, true, false), else the text.

    Raises:
        ConfigError: A data_range that is not a positive number.
    """
    try:
        value: object = parse_json(text)
    except ValueError:
        value = text
    is_positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if key == "data_range" and not is_positive:
        raise ConfigError(f"--set {key}={text}: expected a number above 0, in stored units")
    return value


def _save_preview(shards: ShardSet, path: Path) -> None:
    try:
        contact_sheet(shards).save(path)
    except (OSError, ValueError) as error:
        raise MachineError(f"{path}: cannot write the preview ({error})") from error


def describe(shards: ShardSet, samples: int) -> str:
    """Describe a split as text.

    Args:
        shards: The split.
        samples: How many of its first samples to list.

    Returns:
        Lines with its size, fields and their statistics, the builder's notes, and the first samples.
    """
    size = sum(shard["size"] for shard in shards.shards) / 1e6
    lines = [f"{shards.path}: {len(shards)} samples in {len(shards.shards)} shard(s), {size:.1f} MB"]
    for name, info in shards.fields.items():
        shape = " x ".join(map(str, info.shape or ("mixed, from " + str(info.smallest[0]), info.smallest[1])))
        statistics = ", ".join(f"{key} {value}" for key, value in shards.statistics.get(name, {}).items())
        lines.append(f"  {name}: {info.dtype}, {shape}, {info.channels} channel(s); {statistics}")
    lines += [f"  {key}: {value}" for key, value in shards.meta.items()]
    complete = [name for name, info in shards.fields.items() if info.count == len(shards)]
    for sample in range(min(samples, len(shards))):
        shapes = ", ".join(f"{name} {shards.shape(sample, name)}" for name in complete)
        notes = json.dumps(shards.json(sample), ensure_ascii=False)
        lines.append(f"  [{sample}] {shards.key(sample)}: {shapes} {notes}")
    return mask("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
