"""What every entry script shares: arguments, one-line errors, exit codes."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from quell.configs.errors import ConfigError, run_command
from quell.configs.legacy.commands import explain_old_flags
from quell.configs.support import logs
from quell.configs.support.arguments import CommandParser
from quell.shards.remote import at_exit

# torch's C++ code prints stack traces as warnings when a connection is lost; what matters is raised as well
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def config_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments that choose a run: --config, overrides, --epochs, --run-dir."""
    parser = CommandParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="YAML", help="what to run, e.g. configs/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="changes to single keys")
    parser.add_argument("--epochs", type=float, metavar="N", help="the same as loop.epochs=N")
    parser.add_argument("--no-wandb", action="store_true", help="the same as tracking.wandb_project=null")
    parser.add_argument("--run-dir", metavar="DIR", help="run folder; default runs/<name>")
    return parser


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add --trust-code, for commands that open shared models."""
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="let the configuration of a shared model import classes from outside of Quell",
    )


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line, with overrides before and after the options, and with --verbose and --quiet."""
    logs.add_arguments(parser)
    words = sys.argv[1:] if arguments is None else arguments
    if explanation := explain_old_flags(words, parser._option_string_actions):
        parser.exit(ConfigError.exit_code, f"error: {explanation}\n")
    options = parser.parse_intermixed_args(arguments)
    logs.configure(options)
    return options


def overrides(options: argparse.Namespace) -> list[str]:
    """The command line's changes to the configuration, including those of shorthand flags."""
    extra = [] if options.epochs is None else [f"loop.epochs={options.epochs:g}"]
    if getattr(options, "no_wandb", False):
        extra.append("tracking.wandb_project=null")
    return [*options.overrides, *extra]


def run(function: Callable[[], int]) -> int:
    """Do a script's work; its exit code. A user's mistake becomes one sentence on stderr."""
    rank = os.environ.get("RANK", "0")
    return run_command(function, "" if rank == "0" else f"rank {rank}: ")


def leave(code: int) -> NoReturn:
    """Exit this process; one of several ranks does so at once, without finalising Python.

    Threads of gloo outlive their process group. One that needs the interpreter while it is being finalised aborts the
    process ("terminate called without an active exception"), and with it a run that had finished.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with contextlib.suppress(OSError, ValueError):  # nobody reads them any more
            sys.stdout.flush()
            sys.stderr.flush()
        at_exit.run()
        os._exit(code)
    sys.exit(code)
