"""Diagnose a run: check measured values against thresholds, and print verdicts with advice.

`launch/diagnose.py --run DIR` diagnoses an existing run; `--config configs/NAME.yaml --steps 200` first trains one for
that many steps. The report begins with single steps (batch, latents, losses, gradient norms): those of the log, and
with --run three further ones from the last checkpoint, which are not saved. Problems change the exit code only with
--strict (to 3).
"""

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

if not __package__:  # started as a script: import the package around this file, then what is where the user is
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    import quell  # noqa: F401

    sys.path[0] = ""

from quell.configs import locations
from quell.configs.errors import ConfigError, DivergedError
from quell.configs.support import paths
from quell.configs.support.arguments import CommandParser
from quell.launch import cli

DEFAULT_STEPS = 200


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and diagnose; returns the exit code."""
    parser = CommandParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--run", metavar="DIR", help="run folder to diagnose")
    subject.add_argument("--config", metavar="YAML", help="configuration to train for --steps and then diagnose")
    parser.add_argument(
        "--steps", type=int, metavar="N", help=f"with --config: training steps (default: {DEFAULT_STEPS})"
    )
    parser.add_argument(
        "--run-dir", metavar="DIR", help="with --config: keep the run here (default: a temporary folder)"
    )
    parser.add_argument("--output", metavar="JSON", help="also write the diagnosis to this file")
    parser.add_argument("--strict", action="store_true", help="exit with code 3 if there are problems")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="a.b=c",
        help="with --config: override single settings; `diagnose.py FILE STEPS`, as in the older program, means "
        "--config FILE --steps STEPS",
    )
    options = cli.parse(parser, arguments)
    _take_positions(options)
    if not (options.run or options.config):
        parser.error("one of the arguments --run --config is required")
    return cli.run(lambda: diagnose(options))


def _take_positions(options: argparse.Namespace) -> None:
    """Take a configuration and a number of steps that are given by position, as the older program took them."""
    words = options.overrides
    if not (options.run or options.config) and words and Path(words[0]).suffix in (".json", ".yaml"):
        options.config = words.pop(0)
        if words and words[0].isdecimal() and options.steps is None:
            options.steps = int(words.pop(0))


def diagnose(options: argparse.Namespace) -> int:
    """Diagnose as the parsed arguments ask; the exit code is that of DivergedError for problems with --strict."""
    if options.run and (options.overrides or options.steps is not None or options.run_dir):
        raise ConfigError("--run diagnoses a run as it is: --steps, --run-dir and a.b=c belong to --config")

    from quell.launch.diagnosis import (
        examine,  # imports torch, which is slow: only once the arguments are known to be valid
    )

    with ExitStack() as stack:
        if options.run:
            folder = paths.resolve(options.run)
        else:
            if options.run_dir:
                folder = locations.run_folder(options.run_dir)
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quell-diagnose-")))
            steps = DEFAULT_STEPS if options.steps is None else options.steps
            examine.train_for_diagnosis(options.config, options.overrides, folder, steps=steps)
        # a run that was trained for this has logged the gradients of its own steps
        diagnosis = examine.diagnose_run(folder, further_steps=examine.FURTHER_STEPS if options.run else 0)
    print(diagnosis.text(), end="", flush=True)
    if options.output:
        diagnosis.write(Path(options.output))
    return DivergedError.exit_code if options.strict and diagnosis.problems else 0


if __name__ == "__main__":
    sys.exit(main())
