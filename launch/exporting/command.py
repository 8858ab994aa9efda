"""Write a run's restoration as a file for other programs: ONNX, torch.export, TorchScript, BioImage Model Zoo.

`quell export runs/NAME --format onnx --output denoise.onnx`. The file takes images in stored units and returns restored
ones: normalisation, noise levels, all passes, padding and cropping are inside. It is compared with `quell denoise` on
real images before it is kept. docs/export.md says what can be exported, and how to use the files.
"""

import argparse
import sys
from pathlib import Path

from quell.configs.errors import ConfigError
from quell.configs.support.arguments import whole_number
from quell.launch import cli
from quell.launch.sharing.writing.command import share

COMPARED_ON = ("data", "split", "images")
MEANINGLESS = {
    "hub": ("bioimage", "format", "author", "cite", "on", "tolerance", *COMPARED_ON, "trust_code"),
    "bioimage": ("format", "report"),
    "on": COMPARED_ON,
}
"""Argument -> those that say nothing beside it."""
PART_OF = {"author": ("bioimage",), "cite": ("bioimage",), "licence": ("bioimage", "hub"), "report": ("hub",)}
"""Argument -> those of which it needs one."""


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, export, print what was compared; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="run folder, or one checkpoint folder inside it")
    parser.add_argument(
        "--which", choices=("best", "last", "average"), default="best", help="which checkpoint of the run"
    )
    parser.add_argument(
        "--format", choices=("onnx", "torch.export", "torchscript"), help="of the file written (default: onnx)"
    )
    parser.add_argument(
        "--bioimage", action="store_true", help="write a package of the BioImage Model Zoo: a folder, or a file .zip"
    )
    parser.add_argument("--author", action="append", default=[], metavar="NAME", help="of the package; repeatable")
    parser.add_argument("--licence", default="", metavar="SPDX", help="of the package, such as CC-BY-4.0")
    parser.add_argument(
        "--cite", action="append", default=[], metavar="'TEXT | DOI'", help="of the package; repeatable; or TEXT | URL"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", metavar="PATH", help="file or package to write")
    target.add_argument(
        "--hub", metavar="DIR", help="write a folder for the Hugging Face Hub, with a model card, as quell share does"
    )
    parser.add_argument("--report", metavar="JSON", help="results in that card (default: RUN/report.json)")
    parser.add_argument("--data", metavar="DIR", help="root of the shards to compare on (default: the run's data.root)")
    parser.add_argument("--split", metavar="NAME", help="split to compare on (default: the run's data.test_split)")
    parser.add_argument(
        "--images", type=whole_number(1), metavar="N", help="images of the split to compare on (default: 4)"
    )
    parser.add_argument(
        "--on", nargs="+", metavar="INPUT", help="compare on these files instead: FILE, or field=FILE,field=FILE"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="largest difference to quell denoise, as a share of the range of the image (default: 0.001)",
    )
    cli.add_trust_argument(parser)
    options = cli.parse(parser, arguments)
    return cli.run(lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    _refuse_contradictions(options)
    if options.hub:
        return share(options, options.hub)
    # torch is slow to import: not before the arguments are known to be valid
    from quell.launch.exporting.bioimage import package
    from quell.launch.exporting.writing import export, parity, samples
    from quell.launch.inference.restorer import Restorer
    from quell.launch.sharing.locating import locate

    def images(restorer: Restorer) -> list[samples.Sample]:
        if options.on:
            return samples.of_files(restorer, options.on)
        return samples.of_split(restorer, options.data, options.split, options.images or samples.IMAGES)

    run, output = locate(options.run, trust_code=options.trust_code), Path(options.output)
    tolerance = parity.TOLERANCE if options.tolerance is None else options.tolerance
    if options.bioimage:
        credits = package.Credits(tuple(options.author), options.licence, tuple(options.cite))
        written = package.export_package(
            run,
            output,
            credits,
            which=options.which,
            images=images,
            tolerance=tolerance,
            trust_code=options.trust_code,
        )
    else:
        written = export.export(
            run,
            output,
            format=options.format or "onnx",
            which=options.which,
            images=images,
            tolerance=tolerance,
            trust_code=options.trust_code,
        )
    print(written.parity.sentence())
    print(written.file)
    return 0


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """ConfigError for arguments that would be ignored."""
    given = {name for name, value in vars(options).items() if value not in (None, [], "") and value is not False}
    problems = [
        f"{_flag(other)} says nothing beside {_flag(name)}: leave one of them out"
        for name, others in MEANINGLESS.items()
        for other in others
        if {name, other} <= given
    ]
    problems += [
        f"{_flag(name)} belongs to {' or '.join(map(_flag, others))}: leave it out, or give one of them"
        for name, others in PART_OF.items()
        if name in given and not given & {*others, "hub"}
    ]
    if problems:
        raise ConfigError(problems)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main())
