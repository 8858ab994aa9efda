"""A folder on a node's disk that keeps files of splits that are elsewhere, for all processes of the node, up to a size.

It has one sub-folder per version of a split. Whoever reads a split holds a shared lock on its sub-folder, which ends
with the process, however that dies; only files of splits that nobody reads are evicted, the least recently used first.
Every file is written under another name, verified, and renamed: no reader ever sees a part of a file.
"""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from quell.configs.errors import DataError, MachineError
from quell.configs.schema import CacheConfig
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.locks import Lock, try_lock
from quell.shards.remote import at_exit
from quell.shards.remote.remote_folder import ReadInterruptedError

POLL_S = 0.05
_PATIENCE_S = 10.0
"""How long a process that exits waits for others that lock the cache."""
MAX_DOWNLOADS = 3
"""Times a file is downloaded when it arrives damaged."""
_LOCK, _USERS, _RESERVED, _PART = ".lock", ".users", ".reserved", ".part"
_REMOVABLE = ".remove-when-unused"

Download = Callable[[int], Iterator[bytes]]
"""The rest of a remote file from a position on, in chunks."""


class CachedSplit:
    """The sub-folder of one split, which counts as in use for as long as this object lives.

    Args:
        config: Folder and size of the cache.
        key: Name of the sub-folder; another one for each version of a split.
        stop: Ends every wait for another process with ReadInterruptedError.

    Raises:
        MachineError: The folder cannot be used.
    """

    def __init__(self, config: CacheConfig, key: str, stop: threading.Event, *, for_local: bool = False) -> None:
        self.root = _folder(config, for_local=for_local)
        self.folder, self.limit = self.root / key, int(config.max_gb * 1e9)
        self._stop = stop
        with self._disk_errors():
            in_use = self._enter(removable=for_local)
            if config.folder is None and hasattr(os, "getuid") and self.root.stat().st_uid != os.getuid():
                raise MachineError(f"{self.root}: belongs to another user; set data.cache.folder")
        if in_use is None:  # evictions lock it exclusively, but only under the lock that was held here
            raise MachineError(f"{self.folder / _USERS}: locked by another program; set data.cache.folder")
        self._finalizer = weakref.finalize(self, in_use.close)
        if for_local:
            at_exit.register(partial(_leave, self.root, stop, self._finalizer))

    def _enter(self, *, removable: bool) -> TextIO | None:
        """Create the folders and lock this split's as in use; None where another program has it.

        Another process may be the last to leave meanwhile, and remove everything: then it begins again.
        """
        while True:
            if removable:
                _create(self.root)
            else:
                self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
                (self.root / _REMOVABLE).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError), _locked(self.root / _LOCK, self._stop):
                self.folder.mkdir(exist_ok=True)
                return _lock_file(self.folder / _USERS, shared=True)

    def reserve(self, size: int) -> str | None:
        """Make room for `size` bytes of this split in all, and keep it for this split.

        Returns:
            None, or why there is not so much room.
        """
        with self._disk_errors(), _locked(self.root / _LOCK, self._stop):
            others = [folder for folder in self.root.iterdir() if folder.is_dir() and folder != self.folder]
            busy = [folder for folder in others if _is_in_use(folder)]
            idle = [folder for folder in others if folder not in busy]
            evictable = sorted((file for folder in idle for file in _files(folder)), key=_last_used)
            own_bytes, idle_bytes = _bytes(_files(self.folder)), _bytes(evictable)
            # What busy splits have reserved is theirs, whether it has been downloaded yet or not.
            room = self.limit - sum(max(_reserved(folder), _bytes(_files(folder))) for folder in busy)
            promised = sum(max(0, _reserved(folder) - _bytes(_files(folder))) for folder in busy)
            free = shutil.disk_usage(self.root).free - promised
            if size > room:
                return f"data.cache.max_gb leaves it {max(room, 0) / 1e9:.3g} GB"
            if size > free + own_bytes + idle_bytes:
                return f"the disk of {self.root} has {free / 1e9:.3g} GB free"
            for file in evictable:
                if size + idle_bytes <= room and size - own_bytes <= free:
                    break
                file_bytes = file.stat().st_size
                file.unlink()
                idle_bytes, free = idle_bytes - file_bytes, free + file_bytes
            for folder in idle:
                if not any(_files(folder)):
                    shutil.rmtree(folder)
            write_atomically(self.folder / _RESERVED, str(size))
            return None

    def file(self, name: str, download: Download, check: Callable[[Path], None], *, wait: bool = True) -> Path | None:
        """The local copy of a file, downloaded if necessary.

        A partial download that an interrupted process left behind is continued.

        Args:
            name: Name of the file.
            download: Reads the rest of it from a position on.
            check: Raises DataError where a copy is damaged, which is then downloaded again a few times.
            wait: Whether to wait while another process downloads the file.

        Returns:
            The copy, or None where another process is downloading it and `wait` is False.
        """
        path = self.folder / name
        with self._disk_errors():
            if not path.is_file():
                with contextlib.ExitStack() as stack:
                    try:
                        stack.enter_context(_locked(path.with_name(f".{name}{_LOCK}"), self._stop, wait=wait))
                    except BlockingIOError:
                        return None
                    if not path.is_file():  # the process that held the lock may have downloaded it
                        self._download(path, download, check)
            os.utime(path)
        return path

    def drop(self, name: str) -> None:
        """Remove a copy that turned out to be damaged."""
        (self.folder / name).unlink(missing_ok=True)

    def _download(self, path: Path, download: Download, check: Callable[[Path], None]) -> None:
        part = path.with_name(path.name + _PART)
        for attempt in range(1, MAX_DOWNLOADS + 1):
            with open(part, "ab") as file:
                for chunk in download(file.tell()):
                    file.write(chunk)
            try:
                check(part)
            except DataError:
                part.unlink()
                if attempt == MAX_DOWNLOADS:
                    raise
            else:
                os.replace(part, path)
                return

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn errors of the local disk into a MachineError with a remedy."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                problem = "the disk is full: free space or lower data.cache.max_gb"
            else:
                problem = f"{error.strerror or error}: set data.cache.folder to a writable folder on a local disk"
            raise MachineError(f"{self.root}: the cache of remote shards cannot be used, {problem}") from error


def _folder(config: CacheConfig, *, for_local: bool) -> Path:
    """The folder of a cache; MachineError where it contains a variable that is not set."""
    if config.folder is not None:
        folder = os.path.expandvars(os.path.expanduser(config.folder))
        if unset := re.search(r"\$(\w+|\{\w+\})", folder):
            raise MachineError(f"data.cache.folder {config.folder}: the variable {unset[0]} is not set on this node")
        return Path(folder)
    if for_local and (of_job := os.environ.get("SLURM_TMPDIR")):
        return Path(of_job) / "quell-shards"
    return default_folder()


def _create(root: Path) -> None:
    """Create a cache that nobody had created, marked for removal by the last process that leaves it."""
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700)
    except FileExistsError:
        return
    (root / _REMOVABLE).touch()


def _leave(root: Path, stop: threading.Event, finalizer: Callable[[], object]) -> None:
    """End this process's use of a split, and remove the cache if it was made for copies that nobody uses any more."""
    stop.set()  # a thread that copies ahead ends at its next chunk
    finalizer()
    if not (root / _REMOVABLE).exists():
        return
    for _ in range(round(_PATIENCE_S / POLL_S)):  # not for ever: others may be suspended while they hold the lock
        with contextlib.suppress(BlockingIOError), _locked(root / _LOCK, stop, wait=False):
            if not any(_is_in_use(folder) for folder in root.iterdir() if folder.is_dir()):
                shutil.rmtree(root, ignore_errors=os.name == "nt")  # where the lock file is open, and stays
            return
        time.sleep(POLL_S)


def default_folder() -> Path:
    """$QUELL_CACHE/shards, else a folder of this user among the temporary files, which are usually on a local disk."""
    if cache := os.environ.get("QUELL_CACHE"):
        return Path(cache) / "shards"
    # on Windows the folder of temporary files is the user's own
    return Path(tempfile.gettempdir()) / (f"quell-{os.getuid()}" if hasattr(os, "getuid") else "quell")


def _lock_file(path: Path, *, shared: bool = False) -> TextIO | None:
    """Open and lock a file; None where another process holds the lock. The lock ends when the file is closed."""
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115  the lock outlives this function
    outcome = try_lock(file, shared=shared)
    if outcome is Lock.ACQUIRED:
        return file
    file.close()
    if outcome is Lock.UNSUPPORTED:
        raise OSError(errno.ENOLCK, "its file system does not support locks")
    return None


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock inside the block; BlockingIOError where another process has it and not `wait`."""
    while (file := _lock_file(path)) is None:
        if not wait:
            raise BlockingIOError
        if stop.wait(POLL_S):
            raise ReadInterruptedError
    with file:
        yield


def _is_in_use(folder: Path) -> bool:
    file = _lock_file(folder / _USERS)
    if file is None:
        return True
    file.close()
    return False


def _files(folder: Path) -> list[Path]:
    """Everything that takes space."""
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _bytes(files: list[Path]) -> int:
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a partial download that was just renamed
            total += file.stat().st_size
    return total


def _last_used(file: Path) -> tuple[float, str]:
    return file.stat().st_mtime, file.name


def _reserved(folder: Path) -> int:
    try:
        return int((folder / _RESERVED).read_text())
    except (OSError, ValueError):
        return 0
