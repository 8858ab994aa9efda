"""Say what is wrong with a run: measured values against thresholds, with verdicts and advice.

`launch/diagnose.py --config configs/NAME.yaml --steps 200` trains that long and looks; `--run DIR` looks at a run that
is there. Problems do not change the exit code unless --strict is given (then 3).
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

if not __package__:  # started as a script: the folder on the path must be the project's, not launch/
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from configs.support import paths
from launch import cli

STEPS = 200


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, train if asked to, look, write; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", metavar="DIR", help="a run folder to look at")
    what.add_argument("--config", metavar="YAML", help="a configuration to train for a while and look at")
    parser.add_argument("--steps", type=int, metavar="N", help=f"how long to train --config; default {STEPS}")
    parser.add_argument("--run-dir", metavar="DIR", help="keep the run of --config here; default a temporary folder")
    parser.add_argument("--output", metavar="JSON", help="also write the diagnosis to this file")
    parser.add_argument("--strict", action="store_true", help="exit code 3 when a problem was found")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to single keys of --config")
    options = cli.parse(parser, arguments)
    return cli.run(lambda: diagnose(options))


def diagnose(options: argparse.Namespace) -> int:
    """The body of the script; DivergedError's exit code for --strict with problems."""
    from configs.errors import ConfigError, DivergedError
    from launch.diagnosis import examine  # torch is slow to import: not before the arguments are right

    if options.run and (options.overrides or options.steps is not None or options.run_dir):
        raise ConfigError("--run looks at a run as it is: --steps, --run-dir and a.b=c belong to --config")
    with ExitStack() as stack:
        if options.run:
            folder = paths.resolve(options.run)
        else:
            folder = (
                paths.resolve(options.run_dir)
                if options.run_dir
                else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quell-diagnose-")))
            )
            examine.train(
                options.config, options.overrides, folder, steps=STEPS if options.steps is None else options.steps
            )
        result = examine.look(folder)
    print(result.text(), end="", flush=True)
    if options.output:
        result.write(Path(options.output))
    return DivergedError.exit_code if options.strict and result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
