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
| 7 | (no error) | `quell repeat`: the repetition has other weights, or something differs that may change them |
| 8 | (no error) | `quell repeat`: no difference was seen, but the weights could not be compared |
| 75 | (no error) | stopped on a signal with a checkpoint; start the same command again |
| 130 | (no error) | interrupted from the keyboard |
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TextIO

from quell.configs.support.secrets import mask
from quell.configs.support.suggestions import as_started_here

EXIT_DIFFERENT = 7
EXIT_NOT_COMPARED = 8
EXIT_REQUEUE = 75
EXIT_INTERRUPTED = 130

_SPACE = "free space and start the same command again"
_ACCESS = "give access, and start the same command again"
_LIMIT = "raise the limit (ulimit) or choose another file system, and start the same command again"
_NETWORK = "check the network and its file systems, and start the same command again"
_DISK = "check the disk, and start the same command again"

REMEDIES = {
    **dict.fromkeys(("ENOSPC", "EDQUOT"), _SPACE),
    **dict.fromkeys(("EACCES", "EPERM", "EROFS"), _ACCESS),
    **dict.fromkeys(("EFBIG", "EMFILE", "ENFILE", "ENOLCK", "ENAMETOOLONG", "ELOOP"), _LIMIT),
    **dict.fromkeys(
        ("EIO", "ENXIO", "ENODEV", "ENOMEDIUM", "EBUSY", "ETXTBSY", "EREMOTEIO", "EBADMSG", "EUCLEAN"), _DISK
    ),
    "ENOMEM": "free memory, or lower data.batch_size or data.prefetch, and start the same command again",
    **dict.fromkeys(
        ("EISDIR", "ENOTDIR", "ENOTEMPTY", "EEXIST"), "remove what is in the way, and start the same command again"
    ),
    "EPIPE": "the program that read this output has ended",
    **dict.fromkeys(
        (
            "ESTALE", "ETIMEDOUT", "ENOTCONN", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EHOSTDOWN",
            "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENETRESET", "ESHUTDOWN", "ENOTUNIQ", "ECOMM", "EREMCHG",
        ),
        _NETWORK,
    ),
}  # fmt: skip
"""Errors of the operating system that any read or write may meet through no fault of the program, and what to do."""

MACHINE_ERRNOS = tuple(getattr(errno, name) for name in REMEDIES if hasattr(errno, name))
"""Numbers of these errors."""


class QuellError(Exception):
    """A failure that one sentence explains to the user; `exit_code` is the exit code of the process.

    Credentials in URLs are masked: the sentence goes into logs and run folders. Commands in it are as they are started
    here, in a checkout or where Quell is installed.
    """

    exit_code = 1

    def __init__(self, *sentence: object) -> None:
        super().__init__(*(as_started_here(mask(part)) if isinstance(part, str) else part for part in sentence))


class ConfigError(QuellError):
    """A configuration or command line that cannot be run; `problems` holds all of its problems, not only the first."""

    exit_code = 2

    def __init__(self, problems: str | list[str], *, source: str = "") -> None:
        self.problems = [mask(problem) for problem in ([problems] if isinstance(problems, str) else problems)]
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
        code = function()
        sys.stdout.flush()  # what cannot be written is noticed here, not while Python shuts down
        return code
    except QuellError as error:
        _report(f"{who}error: {error}")
        return error.exit_code
    except OSError as error:
        if error.errno not in MACHINE_ERRNOS:
            raise
        _report(f"{who}error: {mask(machine_problem(error))}")
        return MachineError.exit_code
    except MemoryError as error:
        _report(f"{who}error: out of memory{f' ({error})' if str(error) else ''}: {REMEDIES['ENOMEM']}")
        return MachineError.exit_code
    except KeyboardInterrupt:
        _report("interrupted")
        return EXIT_INTERRUPTED


def machine_problem(error: OSError) -> str:
    """An error of the operating system as a sentence: which file, what happened, what to do."""
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name not in (None, ""))
    remedy = REMEDIES.get(errno.errorcode.get(error.errno or 0, ""), "start the same command again")
    where = files or ("the output" if error.errno == errno.EPIPE else "")
    return f"{where + ': ' if where else ''}{error.strerror or error}: {remedy}"


def _report(sentence: str) -> None:
    """Print to stderr; then drop what an output that nobody reads any more still holds."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        _discard(sys.stdout)


def _discard(stream: TextIO) -> None:
    """Send the rest of a broken stream nowhere: Python would complain about it while it shuts down."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
