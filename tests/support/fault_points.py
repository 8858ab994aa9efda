"""Faults at the n-th file operation: kill the process before, in the middle of, or after it, or let the disk refuse it.

Every operation on a path below a folder is two or three points: before it, for writes half-way through it, and after
it. `install` wraps the operations of this process for good, so that a kill is a kill: tests install in a forked child
(`killed_at`) or in a process of its own (`python -m tests.support.fault_points --at N --rank R -- train.py's words`).
`failing` lets operations raise for as long as a block lasts.

Operations: open, create, write, fsync, rename, replace, mkdir, rmdir, unlink, utime, rmtree, and the two serialisers
`torch.save` and `safetensors.torch.save_file` as wholes.
"""

import argparse
import builtins
import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "write", "fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "remove")
"""Functions of `os` that are wrapped. `os.open` is, and so is Python's own `open` of a file to be written."""

KILLED = 99
"""Exit code of a forked child that was killed at its point."""

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EROFS,
)
"""What disks answer that are full, limited, broken, or no longer there."""

Act = Callable[[str], None]
"""What happens at a point, given its description."""


class FaultPoints:
    """Counts the points that a process passes, and acts at one of them."""

    def __init__(self, root: Path, at: int | None, act: Act, *, seen: list[str] | None = None) -> None:
        """Prepare to act at point number `at`, counted from 0; None only counts, and describes points in `seen`."""
        self.root, self.at, self._act = os.path.realpath(root), at, act
        self.seen = [] if seen is None else seen
        self._descriptors: dict[int, str] = {}
        self.removing = 0
        """How many calls of rmtree this process is in."""

    def reach(self, description: str) -> None:
        """Pass a point."""
        self.seen.append(description)
        if self.at is not None and len(self.seen) - 1 == self.at:
            self._act(description)

    def concerns(self, path: object, folder: int | None = None) -> str | None:
        """The path, relative to the root, of an operation's argument; None where it lies elsewhere.

        Args:
            path: A path or an open file's descriptor.
            folder: Descriptor of the folder that a relative path starts from, as in `shutil.rmtree`.
        """
        if folder is not None:
            return f"{self._descriptors[folder]}/{path}" if folder in self._descriptors else None
        if isinstance(path, int):
            return self._descriptors.get(path)
        try:
            full = os.path.abspath(os.fspath(path))  # type: ignore[call-overload]
        except TypeError:
            return None
        inside = full == self.root or full.startswith(self.root + os.sep)
        return os.path.relpath(full, self.root) if inside else None

    def wrapped(self, name: str, function: Callable[..., Any], *, tears: bool = False) -> Callable[..., Any]:
        """A function of `os` with points around its calls below the root."""

        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            place = self.concerns(path, options.get("dir_fd"))
            if place is None:
                return function(path, *arguments, **options)
            self.reach(f"before {name} {place}")
            if tears and len(arguments[0]) > 1:
                half = arguments[0][: len(arguments[0]) // 2]
                self.reach_torn(f"within {name} {place}", lambda: function(path, half))
            self.removing += name == "rmtree"
            try:
                # a killed process, unlike a machine without power, loses nothing it wrote: syncing would only cost time
                result = function(path, *arguments, **options) if name != "fsync" else None
            finally:
                self.removing -= name == "rmtree"
            if name == "open":
                self._descriptors[int(result or 0)] = place
            self.reach(f"after {name} {place}")
            return result

        return call

    def reach_torn(self, description: str, half: Callable[[], object]) -> None:
        """Pass a point at which half of an operation is done, should the process be killed there."""
        if self.at == len(self.seen):
            half()
        self.reach(description)

    def opening(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Python's own `open`, with points around the opening of a file below the root that is to be written."""

        def call(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            place = self.concerns(file)
            if place is None or isinstance(file, int) or not set(mode) & set("wax+"):
                return function(file, mode, *arguments, **options)
            self.reach(f"before create {place}")
            opened = function(file, mode, *arguments, **options)
            self.reach(f"after create {place}")
            return opened

        return call

    def serialising(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A serialiser that writes its first argument to its second, with a point at half of the file."""

        def call(content: Any, file: Any, *arguments: Any, **options: Any) -> Any:
            path = getattr(file, "name", file)
            place = self.concerns(path)
            if place is None:
                return function(content, file, *arguments, **options)
            self.reach(f"before {name} {place}")

            def half() -> None:
                function(content, file, *arguments, **options)
                if not isinstance(file, str | os.PathLike):
                    file.flush()
                os.truncate(path, os.path.getsize(path) // 2)

            self.reach_torn(f"within {name} {place}", half)
            result = function(content, file, *arguments, **options)
            self.reach(f"after {name} {place}")
            return result

        return call

    def install(self) -> Callable[[], None]:
        """Wrap the operations of this process; what undoes it."""
        import safetensors.torch
        import torch

        from quell.launch.checkpoints import store

        patches: list[tuple[Any, str, Callable[..., Any]]] = [
            (os, name, self.wrapped(name, getattr(os, name), tears=name == "write")) for name in OPERATIONS
        ]
        opening = self.opening(io.open)
        patches += [(io, "open", opening), (builtins, "open", opening)]
        patches += [(shutil, "rmtree", self.wrapped("rmtree", shutil.rmtree))]
        patches += [(torch, "save", self.serialising("torch.save", torch.save))]
        save_file = self.serialising("save_file", safetensors.torch.save_file)
        patches += [(store, "save_file", save_file), (safetensors.torch, "save_file", save_file)]
        before = [(place, name, getattr(place, name)) for place, name, _ in patches]
        for place, name, function in patches:
            setattr(place, name, function)

        def undo() -> None:
            for place, name, function in before:
                setattr(place, name, function)

        return undo


def kill(_: str) -> None:
    """End this process as SIGKILL does, whichever thread calls it: nothing is flushed, no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def points_of(work: Callable[[], object], root: Path) -> list[str]:
    """The points that `work` passes below `root`, in order; it is done in this process."""
    points = FaultPoints(root, None, kill)
    undo = points.install()
    try:
        work()
    finally:
        undo()
    return points.seen


def killed_at(at: int, work: Callable[[], object], root: Path) -> bool:
    """Do `work` in a forked child that is killed at a point; whether it got there. An error of the child is raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            FaultPoints(root, at, kill).install()
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0, f"the child ended with status {status}"
    return False


@contextmanager
def failing(number: int, root: Path, at: int, *, once: bool = False) -> Iterator[FaultPoints]:
    """Inside the block the operation at point `at`, and unless `once` all that follow, raise an OSError.

    Points after an operation and within it do not raise; a removal succeeds, as it does on a full disk.
    """

    class Failing(FaultPoints):
        def reach(self, description: str) -> None:
            self.seen.append(description)
            due = len(self.seen) - 1 == at if once else len(self.seen) - 1 >= at
            frees = any(word in description for word in (" unlink ", " rmdir ", " rmtree ", " remove "))
            if due and description.startswith("before") and not frees and not self.removing:
                raise OSError(number, os.strerror(number))

    points = Failing(root, None, kill)
    undo = points.install()
    try:
        yield points
    finally:
        undo()


def main(arguments: list[str]) -> int:
    """Train with a kill at a point of one rank; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--at", type=int, required=True, help="number of the point, counted from 0")
    parser.add_argument("--rank", type=int, default=0, help="the rank that is killed")
    parser.add_argument("--root", type=Path, required=True, help="folder below which operations count")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="arguments of launch/train.py, after --")
    options = parser.parse_args(arguments)
    from quell.launch import cli, train

    if int(os.environ.get("RANK", "0")) == options.rank:
        FaultPoints(options.root, options.at, kill).install()
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    cli.leave(train.main(words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
