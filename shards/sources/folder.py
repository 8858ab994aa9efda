r"""Build shards from folders of images, matched by name.

Reads one folder or glob of images (png, jpg, tif, bmp, webp, npy) per field. Images of a sample have the same name
without suffix, or agree in the part of it that --match selects. One field alone is enough for self-supervised methods.

Writes the fields named by --field, in the dtype of the files: 8- and 16-bit images are scaled to [0, 1] when they are
read for training, so their data range is 1. With --encoded the files themselves are stored.

  python -m shards.build folder --field noisy=in --field clean=gt --output DIR
  python -m shards.build folder --field 'noisy=d/*_real.JPG' --field 'clean=d/*_mean.JPG' --match '(.+)_(real|mean)' \
      --output DIR
  python -m shards.build folder --field 'noisy=d/{split}/in' --field 'clean=d/{split}/gt' --output DIR    already split
"""

import argparse
from functools import partial
from pathlib import Path

from quell.configs.errors import DataError
from quell.shards.building import splits
from quell.shards.building.build_splits import Headers, build_splits
from quell.shards.building.image_files import (
    by_key,
    check_encodable,
    key_of,
    list_images,
    match_fields,
    read_sample_fields,
)
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.options import (
    add_allow_missing_argument,
    add_data_range_argument,
    add_encoded_argument,
    add_licence_argument,
)
from quell.shards.format import members
from quell.shards.sources.common.field_arguments import add_field_argument, parse_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m shards.build folder`."""
    add_field_argument(
        parser, "NAME=FOLDER", "a field and its folder or glob; {split} in it stands for train, val and test"
    )
    parser.add_argument(
        "--match",
        help="regular expression; its first group is the part of a file name that images of one sample share "
        "(default: the whole name)",
    )
    parser.add_argument(
        "--group",
        help="regular expression; its first group is the part of a name that identifies the patient or scene, all "
        "images of which stay in one split (default: the whole name)",
    )
    parser.add_argument("--grey", action="store_true", help="convert colour images to luminance")
    add_encoded_argument(parser)
    add_allow_missing_argument(parser)
    add_licence_argument(parser)
    add_data_range_argument(parser, "1")
    splits.add_split_arguments(parser, "80,10,10")


def build(args: argparse.Namespace) -> Headers:
    """Write the splits to args.output; returns split -> index header."""
    places = parse_fields(args.field)
    if any("{split}" in place for place in places.values()):
        by_split = {
            split: {name: place.replace("{split}", split) for name, place in places.items()} for split in splits.NAMES
        }
        items = {split: _items(args, inside, split) for split, inside in by_split.items() if _exists(inside)}
    else:
        items = splits.divide(_items(args, places), args)
    meta = {
        "source": "folder",
        "data_range": args.data_range,
        "licence": args.licence,
        "seed": args.seed,
        "from": {name: Path(place).name for name, place in places.items()},
    }
    return build_splits(args, "folder", items, meta)


def _exists(places: dict[str, str]) -> bool:
    return all(Path(place).exists() or Path(place).parent.is_dir() for place in places.values())


def _items(args: argparse.Namespace, places: dict[str, str], split: str = "") -> list[WorkItem]:
    files = {name: by_key(_list(Path(place)), args.match) for name, place in places.items()}
    matched = match_fields(files, allow_missing=args.allow_missing)
    return [
        WorkItem(key, _group(args.group, key, split), partial(_load, key, fields, args), tuple(fields.values()))
        for key, fields in matched.items()
    ]


def _list(place: Path) -> list[Path]:
    return list_images(place) if place.is_dir() else list_images(place.parent, place.name)


def _group(pattern: str | None, key: str, split: str) -> str:
    """What stays together; without a pattern, equal names in two given splits are different images."""
    if pattern:
        return key_of(Path(f"{key}.x"), pattern)
    return f"{split}-{key}" if split else key


def _load(key: str, files: dict[str, Path], args: argparse.Namespace) -> list[Sample]:
    if not args.encoded:
        fields, stated = read_sample_fields(files, grey=args.grey)
        return [Sample.of_arrays(key, fields, suggested_range=stated)]
    for path in files.values():
        if path.suffix[1:].lower() not in members.IMAGES:
            raise DataError(f"{path}: {path.suffix} files cannot be stored as they are; omit --encoded")
        check_encodable(path)
    return [Sample.of_files(key, files)]
