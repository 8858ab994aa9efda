"""The errors that users see, and the exit codes of every command.

| code | class | meaning |
|---|---|---|
| 0 | | finished |
| 1 | QuellError, or any other exception | a bug |
| 2 | ConfigError | the configuration or the arguments |
| 3 | DivergedError | training stopped itself: not finite, or no progress |
| 4 | DataError | data that is missing, damaged, stale or of the wrong shape |
| 5 | CheckpointError | a checkpoint that does not belong to this run |
| 6 | MachineError | the machine: folder not writable, package missing, disk full |
| 75 | (no error) | stopped on a signal with a checkpoint; start the same command again |
| 130 | (no error) | interrupted from the keyboard |
"""

import errno
import sys
from collections.abc import Callable

EXIT_REQUEUE = 75
EXIT_INTERRUPTED = 130

MACHINE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENFILE, errno.EMFILE)
"""Errors of the operating system that any read or write may meet, through no fault of the program."""


class QuellError(Exception):
    """A failure that one sentence explains to the user; `exit_code` is the exit code of the process."""

    exit_code = 1


class ConfigError(QuellError):
    """A configuration or command line that cannot be run; `problems` holds all of its problems, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | list[str], *, source: str = "") -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.source = source
        where = f"{source}: " if source else ""
        if len(self.problems) == 1:
            super().__init__(where + self.problems[0])
        else:
            lines = "\n".join(f"  - {problem}" for problem in self.problems)
            super().__init__(f"{where}{len(self.problems)} problems\n{lines}")


class DivergedError(QuellError):
    """Training that cannot continue: too many steps that were not finite, or no progress between restarts."""

    exit_code = 3


class DataError(QuellError):
    """Data that is missing, damaged, stale or of the wrong shape."""

    exit_code = 4


class CheckpointError(QuellError):
    """A checkpoint that does not belong to this run or cannot be read."""

    exit_code = 5


class MachineError(QuellError):
    """A problem of the machine: a folder that is not writable, a missing package, a full disk."""

    exit_code = 6


def run_command(function: Callable[[], int], who: str = "") -> int:
    """Run a command; errors of the user or the machine become one sentence on stderr.

    Args:
        function: Does the work, and returns the exit code.
        who: Prefix of the sentence, where several processes may print one.

    Returns:
        The exit code (table above).
    """
    try:
        return function()
    except QuellError as error:
        print(f"{who}error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        if error.errno not in MACHINE_ERRNOS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"{who}error: {where}{error.strerror}: free space or give access, and start the same command again",
            file=sys.stderr,
            flush=True,
        )
        return MachineError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
