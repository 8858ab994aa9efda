"""A folder on a node's disk that keeps files of remote splits, for all processes of the node, up to a size.

One sub-folder per version of a split. Whoever reads a split holds a shared lock on its sub-folder, which ends with the
process however that dies; only files of splits that nobody reads are removed, the longest unused first. Every file
appears by renaming a finished and verified one, so that no reader meets half a file.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from configs.errors import DataError, MachineError
from configs.schema import CacheConfig
from shards.remote.store import ReadInterruptedError

POLL_S = 0.05
DOWNLOADS = 3
"""Times a file that arrived damaged is fetched anew."""
_LOCK, _USERS, _RESERVED, _PART = ".lock", ".users", ".reserved", ".part"

Pieces = Callable[[int], Iterator[bytes]]
"""From a position on, the rest of a file."""


class Kept:
    """One split's sub-folder, in use as long as this object lives."""

    def __init__(self, config: CacheConfig, key: str, stop: threading.Event) -> None:
        self.root = default_folder() if config.folder is None else Path(os.path.expanduser(config.folder))
        self.folder, self.limit = self.root / key, int(config.max_gb * 1e9)
        self._stop = stop
        with self._problems():
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if config.folder is None and self.root.stat().st_uid != os.getuid():
                raise MachineError(f"{self.root}: belongs to another user; set data.cache.folder")
            with _locked(self.root / _LOCK, stop):
                self.folder.mkdir(exist_ok=True)
                self._in_use = _Held(self.folder / _USERS, fcntl.LOCK_SH)

    def reserve(self, wanted: int) -> str | None:
        """Make room for `wanted` bytes of this split in all; None, or why there is not so much."""
        with self._problems(), _locked(self.root / _LOCK, self._stop):
            splits = [folder for folder in self.root.iterdir() if folder.is_dir() and folder != self.folder]
            busy = [folder for folder in splits if _used(folder)]
            idle = sorted((file for folder in splits if folder not in busy for file in _files(folder)), key=_last_used)
            mine = _bytes(_files(self.folder))
            room = self.limit - sum(max(_reserved(folder), _bytes(_files(folder))) for folder in busy)
            idle_bytes = _bytes(idle)
            free = shutil.disk_usage(self.root).free - sum(
                max(0, _reserved(folder) - _bytes(_files(folder))) for folder in busy
            )
            if wanted > room:
                return f"data.cache.max_gb leaves it {max(room, 0) / 1e9:.3g} GB"
            if wanted > free + mine + idle_bytes:
                return f"the disk of {self.root} has {free / 1e9:.3g} GB free"
            for file in idle:
                if wanted + idle_bytes <= room and wanted - mine <= free:
                    break
                size = file.stat().st_size
                file.unlink()
                idle_bytes, free = idle_bytes - size, free + size
            for folder in splits:
                if folder not in busy and not any(_files(folder)):
                    shutil.rmtree(folder)
            (self.folder / _RESERVED).write_text(str(wanted))
            return None

    def file(self, name: str, rest: Pieces, check: Callable[[Path], None], *, wait: bool = True) -> Path | None:
        """The local copy of a file, fetched if need be; None when another process is fetching it and not `wait`.

        A part that an interrupted process left behind is continued. `check` raises DataError for a damaged copy, which
        is fetched again a few times.
        """
        path = self.folder / name
        with self._problems():
            if not path.is_file():
                with contextlib.ExitStack() as stack:
                    try:
                        stack.enter_context(_locked(path.with_name(f".{name}{_LOCK}"), self._stop, wait=wait))
                    except BlockingIOError:
                        return None
                    if not path.is_file():
                        self._fetch(path, rest, check)
            os.utime(path)
        return path

    def drop(self, name: str) -> None:
        """Remove a copy that turned out to be damaged."""
        (self.folder / name).unlink(missing_ok=True)

    def _fetch(self, path: Path, rest: Pieces, check: Callable[[Path], None]) -> None:
        part = path.with_name(path.name + _PART)
        for attempt in range(DOWNLOADS):
            with open(part, "ab") as file:
                for piece in rest(file.tell()):
                    file.write(piece)
            try:
                check(part)
            except DataError:
                part.unlink()
                if attempt == DOWNLOADS - 1:
                    raise
            else:
                os.replace(part, path)
                return

    @contextlib.contextmanager
    def _problems(self) -> Iterator[None]:
        """What the local disk has against it, in one sentence."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            what = (
                "the disk is full: free space or lower data.cache.max_gb"
                if full
                else f"{error.strerror or error}: set data.cache.folder to a writable folder on a local disk"
            )
            raise MachineError(f"{self.root}: the cache of remote shards cannot be used, {what}") from error


def default_folder() -> Path:
    """$QUELL_CACHE/shards, else a folder of this user among the temporary files, which are usually on a local disk."""
    cache = os.environ.get("QUELL_CACHE")
    return Path(cache) / "shards" if cache else Path(tempfile.gettempdir()) / f"quell-{os.getuid()}"


class _Held:
    """A lock that ends with the last reference to it, or with the process."""

    def __init__(self, path: Path, kind: int) -> None:
        self._file = open(path, "a")  # noqa: SIM115
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """End it now."""
        self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.release()


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event, *, wait: bool = True) -> Iterator[None]:
    """Alone in the block among all processes of the node; BlockingIOError when another is and not `wait`."""
    while True:
        try:
            held = _Held(path, fcntl.LOCK_EX)
            break
        except BlockingIOError:
            if not wait:
                raise
            if stop.wait(POLL_S):
                raise ReadInterruptedError from None
    try:
        yield
    finally:
        held.release()


def _used(folder: Path) -> bool:
    try:
        _Held(folder / _USERS, fcntl.LOCK_EX)
    except BlockingIOError:
        return True
    return False


def _files(folder: Path) -> list[Path]:
    """Everything that takes space."""
    return [file for file in folder.iterdir() if not file.name.startswith(".")]


def _bytes(files: list[Path]) -> int:
    found = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # a part that just got its final name
            found += file.stat().st_size
    return found


def _last_used(file: Path) -> tuple[float, str]:
    return file.stat().st_mtime, file.name


def _reserved(folder: Path) -> int:
    try:
        return int((folder / _RESERVED).read_text())
    except (OSError, ValueError):
        return 0
