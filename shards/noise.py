"""Audit the noise of a data set of shards: `python -m shards.noise DIR [--save FILE] [--picture FILE] [--json]`.

Per noisy field: the level, the correlation between pixels, the map over the image, the dependence on the signal, and
the correlation with other fields, from repeats (`<field>_second`), else clean images (`<field>_clean`), else air and
smooth regions; then one verdict per method. `--alone` pretends that there are noisy images only.
"""

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.errors import MachineError, run_command
from quell.configs.support.arguments import CommandParser, whole_number
from quell.losses.noise.audit import NoiseAudit, audit_noise
from quell.shards.auditing import noise_picture, noise_report
from quell.shards.auditing.sampled_fields import SAMPLES, read_fields
from quell.shards.format import index
from quell.shards.reading.shard_set import ShardSet


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = CommandParser(
        prog="python -m shards.noise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a split, or the folder that holds the splits")
    parser.add_argument(
        "--split", default="train", help="split to look at, if the folder holds several (default train)"
    )
    parser.add_argument(
        "--field", action="append", metavar="NAME", help="noisy field; repeat for several (default: all)"
    )
    parser.add_argument(
        "--samples", type=whole_number(1), default=SAMPLES, help=f"samples that are read, at most (default {SAMPLES})"
    )
    parser.add_argument("--alone", action="store_true", help="do not use repeats and clean images")
    parser.add_argument(
        "--save", metavar="NPZ", help="write the noise model to this file, for pipeline.noise and tests"
    )
    parser.add_argument("--picture", metavar="PNG", help="draw spectra, correlations, maps and levels into this file")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    args = parser.parse_args(arguments)
    return run_command(lambda: _audit(args))


def _audit(args: argparse.Namespace) -> int:
    shards = ShardSet.open(_split(Path(args.folder), args.split))
    try:
        fields = read_fields(shards, args.field, samples=args.samples, alone=args.alone)
    finally:
        shards.files.close()
    audit = audit_noise(fields)
    if args.save or args.picture:
        _write(audit, args)
    if args.json:
        print(json.dumps(noise_report.as_json(audit), indent=2))
    else:
        read = max(len(known.images) for known in fields.values())
        print("\n".join(noise_report.markdown(audit, f"{read} samples of {shards.path}")))
    return 0


def _write(audit: NoiseAudit, args: argparse.Namespace) -> None:
    try:
        if args.save:
            audit.model.save(Path(args.save))
        if args.picture:
            noise_picture.draw(audit, Path(args.picture))
    except (OSError, ValueError) as error:
        raise MachineError(f"{args.save or args.picture}: cannot be written ({error})") from error


def _split(folder: Path, name: str) -> Path:
    """The folder of the split: the given one if it holds shards, else the one of this name in it."""
    if any(folder.glob("*.tar")) or (folder / index.HEADER).is_file():
        return folder
    if (folder / name).is_dir():
        return folder / name
    found = sorted(path.parent for path in folder.glob("*/*.tar"))
    return found[0] if found else folder


if __name__ == "__main__":
    sys.exit(main())
