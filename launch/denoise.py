"""Restore images with a trained run: files in and files out, each in its own format and with its metadata.

`launch/denoise.py --run runs/NAME noisy/ scan.nii.gz stack.tif --output restored/`; folders are searched for images.
`--zoo NAME` instead of `--run` takes a model that comes with Quell (`quell zoo` lists them). A method of several fields
takes `pd=FILE,pdfs=FILE` (or two folders), or one npz or h5 file with arrays of these names. docs/data.md says
what is read, kept and refused for each format.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from tqdm import tqdm

from quell.configs.support import logs
from quell.configs.support.arguments import CommandParser, whole_number
from quell.launch import cli
from quell.launch.options.choices import FORMATS, WHICH

_logger = logs.get_logger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, restore, write; return the exit code."""
    parser = CommandParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--run",
        metavar="DIR",
        help="run folder, one checkpoint folder inside it, folder of a shared model, or hub:owner/name[@revision]",
    )
    model.add_argument("--zoo", metavar="NAME", help="a model that comes with Quell; quell zoo lists them")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="FILE, FOLDER, or field=FILE,field=FILE")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--which", choices=WHICH, default="best", help="which checkpoint of the run")
    parser.add_argument(
        "--tile", type=whole_number(0), default=256, metavar="PX", help="tile size; 0 restores full images"
    )
    parser.add_argument(
        "--overlap", type=whole_number(0), default=32, metavar="PX", help="pixels that neighbouring tiles share"
    )
    parser.add_argument("--batch", type=whole_number(1), default=4, metavar="N", help="tiles restored together")
    parser.add_argument("--format", choices=FORMATS, default="same", help="format of the files written")
    parser.add_argument("--pattern", metavar="GLOB", help="take only files in folders that match, such as '*.png'")
    parser.add_argument(
        "--force",
        action="store_true",
        help="also restore images far from the level of the training images, or, with a shared model, with other noise "
        "or noise that cannot be measured",
    )
    cli.add_trust_argument(parser)
    options = cli.parse(parser, arguments)
    return cli.run(lambda: denoise(options))


def denoise(options: argparse.Namespace) -> int:
    """Check every input and target, then restore one after another and print the files written.

    A QuellError about any of them ends it before the first is restored.
    """
    # torch is slow to import: not before the arguments are known to be valid
    from quell.launch.inference.finding import find_inputs
    from quell.launch.inference.progress import followed
    from quell.launch.inference.restoration import Restoration
    from quell.launch.inference.restorer import Restorer, Tiles
    from quell.launch.machine import memory_layout, out_of_memory
    from quell.launch.sharing.locating import locate

    run, folder = locate(options.run or f"zoo:{options.zoo}", trust_code=options.trust_code), Path(options.output)
    inputs, left_out = find_inputs(options.inputs, options.pattern, folder)
    for sentence in left_out.sentences():
        _logger.warning(sentence)
    tiles = Tiles(options.tile, options.overlap, options.batch)
    restorer = Restorer(run, which=options.which, tiles=tiles, trust_code=options.trust_code)
    if restorer.device.type == "cpu":
        memory_layout.keep_freed_memory()
    restoration = Restoration(restorer, folder, options.format, force=options.force)
    tasks = restoration.check(inputs, lambda given: followed(given, "checking", quiet=options.quiet))
    with out_of_memory.explained(restorer.device, lambda: "restoring files; lower --batch or --tile"):
        for task in followed(tasks, "restoring", quiet=options.quiet):
            for file in restoration.restore(task):
                tqdm.write(str(file))
    restoration.warn_of_losses()
    return 0


if __name__ == "__main__":
    sys.exit(main())
