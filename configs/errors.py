"""The mistakes a user can make, each with the exit code it ends the program with.

| code | class | meaning |
|---|---|---|
| 0 | | finished |
| 1 | QuellError, or any other exception | a fault of the program |
| 2 | ConfigError | the configuration or the arguments |
| 3 | DivergedError | training stopped itself: not finite, collapsed, no progress |
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
"""What a disk or a machine may answer to any read or write at any time, whatever the program asked for."""


class QuellError(Exception):
    """A failure with one clear sentence for the user; `exit_code` is what the process returns."""

    exit_code = 1


class ConfigError(QuellError):
    """A configuration or command line that cannot be run; holds every problem found, not only the first."""

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
    """Training that cannot go on: losses not finite beyond the budget, or no progress between restarts."""

    exit_code = 3


class DataError(QuellError):
    """Data that is missing, damaged, stale or of the wrong shape."""

    exit_code = 4


class CheckpointError(QuellError):
    """A checkpoint that does not belong to this run or cannot be read."""

    exit_code = 5


class MachineError(QuellError):
    """Something about the machine: a folder that cannot be written, a missing package, a full disk."""

    exit_code = 6


def run_command(function: Callable[[], int], who: str = "") -> int:
    """The exit code of a command's work; what a user or the machine did wrong becomes one sentence on stderr.

    `who` stands before the sentence, where several processes may say one.
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
