"""Command-line arguments that several sources share."""

import argparse
import os

from quell.configs.support.arguments import real_number, whole_number
from quell.shards.building.resizing import MODES, image_size
from quell.shards.building.writer import SHARD_MB

AUTO = "auto"


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every source has."""
    parser.add_argument("--output", required=True, help="folder to write the splits to")
    parser.add_argument(
        "--seed", type=whole_number(0), default=1337, help="seed of generated noise and of random splits (default 1337)"
    )
    parser.add_argument(
        "--shard-mb",
        type=real_number(above=0),
        default=SHARD_MB,
        help=f"maximum size of a shard in MB (default {SHARD_MB:.0f})",
    )
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=min(8, os.cpu_count() or 1),
        help="files read in parallel (default: the number of CPUs, at most 8)",
    )
    parser.add_argument("--limit", type=whole_number(1), help="use only the first N files or volumes of each split")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop with exit code 4 where anything is left out: dark slices, broken links, hidden files, sub-folders, "
        "files without partner",
    )
    parser.add_argument(
        "--skip-damaged",
        action="store_true",
        help="leave out files that cannot be read and images with NaN or Inf, instead of stopping; they are listed in "
        "build.json",
    )
    parser.add_argument(
        "--trust-data-range",
        action="store_true",
        help="go on although the images contradict the declared data range",
    )
    parser.add_argument(
        "--resize",
        type=image_size,
        metavar="N or HxW",
        help="bring all images to one size in pixels, antialiased, the fields of a sample alike (default: keep sizes)",
    )
    parser.add_argument(
        "--resize-mode",
        choices=MODES,
        default=MODES[0],
        help="stretch: scale height and width separately; crop: scale by one factor until the smaller side fits, and "
        f"cut off the rest on both sides; window: cut out the centre without scaling (default {MODES[0]})",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be written, and write nothing")


def add_licence_argument(parser: argparse.ArgumentParser, default: str = "not stated") -> None:
    """Add --licence."""
    parser.add_argument(
        "--licence", default=default, help=f"licence of the images, noted in the shards (default: {default})"
    )


def add_allow_missing_argument(parser: argparse.ArgumentParser) -> None:
    """Add --allow-missing."""
    parser.add_argument(
        "--allow-missing", action="store_true", help="skip names for which a field has no file, instead of stopping"
    )


def add_encoded_argument(parser: argparse.ArgumentParser) -> None:
    """Add --encoded."""
    parser.add_argument(
        "--encoded", action="store_true", help="store the image files (png, jpg, tif) as they are instead of arrays"
    )


def add_data_range_argument(
    parser: argparse.ArgumentParser, default: str | None, *, required: bool = True, explained: str = ""
) -> None:
    """Add --data-range, a number or `auto`; without a default it is required, or `explained` says what is taken."""
    parser.add_argument(
        "--data-range",
        type=_number_or_auto,
        default=None if default is None else _number_or_auto(default),
        required=required and default is None,
        metavar="R or auto",
        help="range of the images, used by PSNR and SSIM, after 8- and 16-bit images are scaled to [0, 1]; auto: as "
        "the files state it (bits stored, window, dtype)"
        + (f" (default {default or explained})" if default or explained else ""),
    )


def declared_range(args: argparse.Namespace) -> float | str:
    """What `add_data_range_argument` without a default has read; 1 where nothing is given."""
    return 1.0 if args.data_range is None else args.data_range


def _number_or_auto(text: str) -> float | str:
    return AUTO if text == AUTO else real_number(above=0)(text)
