"""Command-line arguments that several sources share."""

import argparse
import os

from configs.support.arguments import real_number, whole_number
from shards.building.writer import SHARD_MB


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
