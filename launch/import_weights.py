"""Import weights that another program trained: a run folder for evaluate.py, denoise.py and init_from.

The network is rebuilt from the tensors of the file, and its output on a stored image is compared with what the original
code computes from the same tensors, before anything is written. No code in the file is run.

  python -m launch.import_weights tcfl ckpt/generator/epoch_600.pth --run-dir runs/tcfl_600
  python -m launch.import_weights c2c best.pt --config config.json --run-dir runs/c2c data.root=runs/data/knee
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs.support.arguments import CommandParser
from quell.launch import cli
from quell.launch.importing.kinds import KINDS


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments and import; return the exit code."""
    options = cli.parse(_parser(), arguments)
    # overrides may stand between the files
    files = [Path(word) for word in options.files if "=" not in word]
    overrides = [word for word in options.files if "=" in word]

    def work() -> int:
        from quell.configs.errors import ConfigError
        from quell.launch.importing import run  # imports torch: not for --help

        if not files:
            raise ConfigError("no weights file given: name the files after the kind")
        conversion = run.import_weights(
            options.kind,
            files,
            Path(options.run_dir),
            config=Path(options.config) if options.config else None,
            overrides=overrides,
            own_statistics=options.image_statistics,
            reference=Path(options.reference) if options.reference else None,
        )
        print(f"{conversion.variant}: {len(conversion.weights)} tensors -> {options.run_dir}")
        if conversion.dropped:
            print(f"not used by anything: {len(conversion.dropped)} tensors, such as {conversion.dropped[0]}")
        for note in conversion.notes:
            print(f"note: {note}")
        return 0

    return cli.run(work)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS, help="program that wrote the weights")
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="weights files; a.b=c changes single keys of the configuration"
    )
    parser.add_argument("--run-dir", required=True, metavar="DIR", help="run folder to write; a new one")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML, or JSON of the older program, of the run (default: the YAML named after the source)",
    )
    parser.add_argument(
        "--image-statistics",
        action="store_true",
        help="normalise by the statistics of each single image, as the test scripts of TCFL and CNCL do "
        "(default: by the running averages in the file, where it has them)",
    )
    parser.add_argument(
        "--reference",
        metavar="NPZ",
        help="images and what the original program made of them, in stored units, under the names of the method's "
        "fields (noisy; pd, pdfs) and outputs (restored; pd_cross, ...): refuse weights that give others here",
    )
    return parser


if __name__ == "__main__":
    cli.leave(main())
