"""Log lines on the console: progress on stdout, warnings on stderr, as much of it as --verbose and --quiet ask for.

Results (tables, plans, JSON) are printed, not logged: --quiet does not silence what a command was called for.
"""

import argparse
import contextlib
import logging
import sys

from quell.configs.support.secrets import mask
from quell.configs.support.suggestions import as_started_here

_ROOT = "quell"


class _ConsoleHandler(logging.Handler):
    """Writes to whatever sys.stdout and sys.stderr are at that moment, so that redirections hold."""

    def emit(self, record: logging.LogRecord) -> None:
        is_warning = record.levelno >= logging.WARNING
        text = as_started_here(mask(record.getMessage()))
        prefix = f"{record.levelname.lower()}: " if is_warning else ""
        # A terminal that was closed, or a full disk behind a redirection, must not end what is being logged.
        with contextlib.suppress(OSError, ValueError):
            print(prefix + text, file=sys.stderr if is_warning else sys.stdout, flush=True)


def get_logger(name: str) -> logging.Logger:
    """The logger of a module (pass `__name__`), below the project's own: messages appear from INFO on."""
    return _root().getChild(name.removeprefix(f"{_ROOT}."))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --verbose and --quiet to a command's arguments."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--verbose", action="store_true", help="also log details")
    choice.add_argument("--quiet", action="store_true", help="log warnings and errors only")


def configure(options: argparse.Namespace) -> None:
    """Set the level that parsed arguments ask for."""
    level = logging.INFO
    if getattr(options, "verbose", False):
        level = logging.DEBUG
    elif getattr(options, "quiet", False):
        level = logging.WARNING
    _root().setLevel(level)


def _root() -> logging.Logger:
    """The project's own logger, writing to the console."""
    root = logging.getLogger(_ROOT)
    if not root.handlers:
        root.addHandler(_ConsoleHandler())
        root.setLevel(logging.INFO)
        root.propagate = False
    return root
