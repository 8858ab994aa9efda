"""What a data set of shards holds: `python -m shards.inspect DIR [--samples N] [--preview FILE]`.

`--set data_range=1.0` writes a note into the index of every split below DIR, for tars that came without one. Notes are
those that a data set may have in any case (shards/building/card.py) and those that the index has already.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.errors import ConfigError, MachineError, run_command
from configs.support.arguments import whole
from configs.support.suggestions import did_you_mean
from shards.building import card
from shards.format import index
from shards.reading.shard_set import ShardSet


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m shards.inspect", description=__doc__.split(":")[0])
    parser.add_argument("folder", help="a split, or the folder that holds the splits")
    parser.add_argument("--samples", type=whole(0), default=3, help="samples listed per split (default 3)")
    parser.add_argument("--preview", metavar="PNG", help="write a contact sheet of the first split here")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"note this in the index of every split, e.g. data_range=1.0: {', '.join(card.NOTES)}, or "
        "a note that the index has already",
    )
    args = parser.parse_args(arguments)
    return run_command(lambda: _inspect(args))


def _inspect(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    splits = [folder] if any(folder.glob("*.tar")) else sorted(path.parent for path in folder.glob("*/*.tar"))
    if not splits:
        index.tars(folder)  # says what is wrong with it
    for number, split in enumerate(dict.fromkeys(splits)):
        shards = ShardSet.open(split)
        if args.set:
            shards = _noted(shards, args.set)
        print(describe(shards, args.samples))
        if args.preview and number == 0:
            _save(shards, Path(args.preview))
        shards.files.close()
    return 0


def _noted(shards: ShardSet, notes: list[str]) -> ShardSet:
    """The same split with KEY=VALUE notes in its index; numbers and true/false are read as such."""
    path = shards.index_path / index.HEADER
    header = json.loads(path.read_text(encoding="utf-8"))
    known = sorted({*card.NOTES, *header["meta"]} - {"plan"})
    for note in notes:
        key, equals, value = note.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {note}: expected KEY=VALUE")
        if key not in known:
            raise ConfigError(f"--set {note}: no note of {shards.path}; {did_you_mean(key, known)}")
        header["meta"][key] = _value(key, value)
    try:
        index.write_header(shards.index_path, header)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror})") from error
    shards.files.close()
    return ShardSet.open(str(shards.path))


def _value(key: str, text: str) -> Any:
    """A note's value as JSON, else as it stands. ConfigError for a data_range that is no number above 0."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "data_range" and not (number and 0 < value < math.inf):
        raise ConfigError(f"--set {key}={text}: expected a number above 0, in stored units")
    return value


def _save(shards: ShardSet, path: Path) -> None:
    try:
        card.preview(shards).save(path)
    except (OSError, ValueError) as error:
        raise MachineError(f"{path}: the preview cannot be written ({error})") from error


def describe(shards: ShardSet, samples: int) -> str:
    """Sizes, fields with statistics, the builder's notes and the first samples, as text."""
    size = sum(shard["size"] for shard in shards.shards) / 1e6
    lines = [f"{shards.path}: {len(shards)} samples in {len(shards.shards)} shard(s), {size:.1f} MB"]
    for name, info in shards.fields.items():
        shape = " x ".join(map(str, info.shape or ("mixed, from " + str(info.smallest[0]), info.smallest[1])))
        numbers = ", ".join(f"{key} {value}" for key, value in shards.statistics.get(name, {}).items())
        lines.append(f"  {name}: {info.dtype}, {shape}, {info.channels} channel(s); {numbers}")
    lines += [f"  {key}: {value}" for key, value in shards.meta.items()]
    for sample in range(min(samples, len(shards))):
        shapes = ", ".join(
            f"{name} {shards.shape(sample, name)}" for name, info in shards.fields.items() if info.count == len(shards)
        )
        notes = json.dumps(shards.json(sample), ensure_ascii=False)
        lines.append(f"  [{sample}] {shards.key(sample)}: {shapes} {notes}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
