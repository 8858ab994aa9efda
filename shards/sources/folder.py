"""Images in folders, matched by name: any fields, or a single folder for self-supervised methods.

python -m shards.build folder --field noisy=in --field clean=gt --output DIR
python -m shards.build folder --field 'noisy=d/*_real.JPG' --field 'clean=d/*_mean.JPG' --match '(.+)_(real|mean)'
python -m shards.build folder --field 'noisy=d/{split}/in' --field 'clean=d/{split}/gt'       already split
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, DataError
from configs.support.arguments import real_number
from shards.building import assemble, images, splits
from shards.building.assemble import Item


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m shards.build folder`."""
    parser.add_argument(
        "--field",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="a field and its folder or glob; {split} in it stands for train, val, test",
    )
    parser.add_argument("--match", help="regular expression whose first group is the part of a name that must agree")
    parser.add_argument(
        "--group",
        help="regular expression on the key whose first group names what must stay in one "
        "split (patient, scene); default: every key is its own group",
    )
    parser.add_argument("--grey", action="store_true", help="convert colour images to luminance")
    parser.add_argument("--encoded", action="store_true", help="store files as they are (png, jpg) instead of arrays")
    parser.add_argument("--allow-missing", action="store_true", help="leave out names that lack a partner")
    parser.add_argument("--licence", default="not stated", help="licence note for the shards")
    parser.add_argument(
        "--data-range",
        type=real_number(above=0),
        default=1.0,
        help="range of the images after 8- and 16-bit ones are read into [0, 1] (default 1)",
    )
    splits.add_argument(parser, "80,10,10")


def build(args: argparse.Namespace) -> dict[str, Any]:
    """Write the splits below args.output; returns split -> index header."""
    fields = _fields(args.field)
    chosen: dict[str, list[Item]]
    if any("{split}" in where for where in fields.values()):
        chosen = {
            split: _items(args, {name: where.replace("{split}", split) for name, where in fields.items()}, split)
            for split in splits.NAMES
            if _exists(fields, split)
        }
    else:
        items = _items(args, fields)
        home = splits.assign([item.group for item in items], args)
        chosen = {split: [item for item in items if home[item.group] == split] for split in splits.NAMES}
    meta = {
        "source": "folder",
        "data_range": args.data_range,
        "licence": args.licence,
        "seed": args.seed,
        "from": {name: Path(where).name for name, where in fields.items()},
    }
    return assemble.write(args, "folder", chosen, meta)


def _fields(arguments: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for argument in arguments:
        name, equals, where = argument.partition("=")
        if not equals or not name.isidentifier() or name in fields:
            raise ConfigError(f"--field {argument}: expected NAME=FOLDER, each name once")
        fields[name] = where
    return fields


def _found(where: str) -> list[Path]:
    path = Path(where)
    return images.files(path) if path.is_dir() else images.files(path.parent, path.name)


def _exists(fields: dict[str, str], split: str) -> bool:
    return all(
        Path(where.replace("{split}", split)).exists() or Path(where.replace("{split}", split)).parent.is_dir()
        for where in fields.values()
    )


def _items(args: argparse.Namespace, fields: dict[str, str], split: str = "") -> list[Item]:
    found = {name: images.by_key(_found(where), args.match) for name, where in fields.items()}
    matched = images.pairs(found, allow_missing=args.allow_missing)
    return [
        Item(key, _group(args.group, key, split), partial(_load, key, chosen, args), tuple(chosen.values()))
        for key, chosen in matched.items()
    ]


def _group(pattern: str | None, key: str, split: str) -> str:
    """What must stay together; without a pattern equal names in two given splits are different images."""
    if pattern:
        return images.key_of(Path(f"{key}.x"), pattern)
    return f"{split}-{key}" if split else key


def _load(key: str, chosen: dict[str, Path], args: argparse.Namespace) -> list[assemble.Sample]:
    if not args.encoded:
        return assemble.one(key, images.load_fields(chosen, grey=args.grey))
    for path in chosen.values():
        if path.suffix.lower() == ".bmp":
            raise DataError(f"{path}: bmp cannot be stored as it is; leave out --encoded")
    return [
        {
            "__key__": key,
            **{f"{name}{path.suffix.lower()}": path.read_bytes() for name, path in chosen.items()},
            "json": {},
        }
    ]
