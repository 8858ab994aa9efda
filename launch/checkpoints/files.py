"""File operations of checkpoints: durable, safe to be killed at, and with errors of the disk as one sentence."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from quell.configs.errors import REMEDIES, MachineError

REMOVED = ".removed-"
"""Prefix of a folder that is being removed: whatever bears it is rubbish, however far the removal got."""

_IS_WINDOWS = os.name == "nt"

_ERRNO_IN_TEXT = re.compile(r"\(os error (\d+)\)")
"""How safetensors reports an error of the operating system."""


@contextmanager
def explained(path: Path, doing: str = "write the checkpoint") -> Iterator[None]:
    """Inside the block a failure of the disk becomes a MachineError: what could not be done, why, and what to do.

    Args:
        path: What is written, for an error that does not name a file.
        doing: What is being done, for the message.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap what the system said
        cause = _system_error(error)
        if cause is None and isinstance(error, RuntimeError) and not _is_of_torch_writer(error):
            raise
        number = cause.errno if cause is not None else None
        reason = os.strerror(number) if number else str(error)
        remedy = REMEDIES.get(errno.errorcode.get(number or 0, ""), "check the disk, and start the same command again")
        where = cause.filename if cause is not None and cause.filename else path
        raise MachineError(
            f"cannot {doing} {where} ({reason}): {remedy}; the last complete checkpoint is untouched"
        ) from error


def sync(path: Path) -> None:
    """Have a file, or the entries of a folder, on the disk when this returns."""
    if _IS_WINDOWS and path.is_dir():
        return  # Windows opens no folders; its file systems keep a journal of changes to them
    handle = os.open(path, os.O_RDWR if _IS_WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # some network file systems cannot sync a folder; they order its changes themselves
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            error.filename = str(path)
            raise
    finally:
        os.close(handle)


def write_durably(path: Path, text: str) -> None:
    """Replace a small file: under its name is the old content or all of the new, even after the power failed."""
    temporary = path.with_name(f".{path.name}.part")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing to an open file does not name it
        raise
    finally:
        os.close(handle)
    os.replace(temporary, path)


def remove(folder: Path) -> None:
    """Remove a folder; a kill leaves it whole, or under a name that is recognised as rubbish.

    Files that cannot be deleted, as another process on a network file system has them open, are left as rubbish.
    """
    rubbish = folder.with_name(REMOVED + folder.name.lstrip("."))
    shutil.rmtree(rubbish, ignore_errors=True)
    os.rename(folder, rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)


def _system_error(error: BaseException | None) -> OSError | None:
    """The operating system's error behind an exception, if that is what it comes from."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        if found := _ERRNO_IN_TEXT.search(str(error)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
        error = error.__cause__ or error.__context__
    return None


def _is_of_torch_writer(error: RuntimeError) -> bool:
    return "inline_container" in str(error) or "PytorchStreamWriter" in str(error)
