"""A folder behind a URL: byte ranges of its files through fsspec, asked again after network errors."""

import importlib
import itertools
import logging
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import fsspec

from configs.errors import ConfigError, DataError, MachineError, QuellError

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Pauses between attempts double from the first to the longest."""
PIECE_BYTES = 8 * 2**20
"""Bytes of one request; what an error in the middle of a shard costs at most."""
CONNECT_S, SILENCE_S = 30.0, 60.0
"""Longest wait for an HTTP connection, and for the next bytes of an answer."""
GIVE_UP, TRY_AGAIN = range(400, 500), (408, 425, 429)
"""HTTP answers that mean the request is wrong, and those among them that pass."""

_log = logging.getLogger(__name__)
_jitter = random.Random()  # its own: the program's generators belong to the training


@dataclass(frozen=True)
class Url:
    """A URL used like a path: `/` appends, `name` is the last part."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]


class ReadInterruptedError(Exception):
    """The reader was told to stop while it waited for the network."""


class Store:
    """Reads the files of one remote folder; safe from several threads.

    Errors of the network are tried again `retries` times, then raised as MachineError; files that are not there
    are a DataError at once. `stop` ends every wait with ReadInterruptedError.
    """

    def __init__(self, url: Url, retries: int) -> None:
        self.url, self.stop = url, threading.Event()
        self.bytes_read = self.requests = 0
        """What has come over the network so far, and how often it was asked."""
        self._retries = retries
        self._system, self._root = _filesystem(url)
        self._counting = threading.Lock()

    def whole(self, name: str) -> bytes:
        """A small file."""
        return self._tried(name, lambda: self._cat(name))

    def read(self, name: str, start: int, end: int) -> bytes:
        """Exactly the bytes [start, end); answers that were cut off are continued."""
        parts = []
        at = start
        while at < end:
            parts.append(self._tried(name, lambda at=at: self._range(name, at, end)))  # type: ignore[misc]
            at += len(parts[-1])
            if at > end:
                raise MachineError(
                    f"{self.url / name}: the server does not answer range requests, so single "
                    "samples cannot be read: raise data.cache.max_gb until the split fits"
                )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pieces(self, name: str, start: int, size: int) -> Generator[bytes, None, None]:
        """The bytes from `start` to the end of a file of `size` bytes, piece by piece."""
        at = start
        while at < size:
            end = min(at + PIECE_BYTES, size)
            piece = self._tried(name, lambda at=at, end=end: self._range(name, at, end))  # type: ignore[misc]
            if len(piece) == size and at:  # all of the file: this server ignores ranges
                piece = piece[at:]
            if len(piece) > size - at:
                raise DataError(
                    f"{self.url / name}: larger than the {size} bytes that were indexed; upload the shard "
                    "and its index again"
                )
            yield piece
            at += len(piece)

    def _range(self, name: str, start: int, end: int) -> bytes:
        data = self._cat(name, start, end)
        if not data:
            raise OSError(f"no bytes at {start}")
        return data

    def _cat(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = self._system.cat_file(f"{self._root}/{name}", start=start, end=end)
        with self._counting:
            self.bytes_read += len(data)
            self.requests += 1
        return data

    def _tried(self, name: str, ask: Callable[[], bytes]) -> bytes:
        """The answer, or the error that asking again would not change."""
        pause = FIRST_PAUSE_S
        for attempt in itertools.count(1):
            if self.stop.is_set():
                raise ReadInterruptedError
            try:
                return ask()
            except Exception as error:
                problem = _final(self.url / name, error)
                if problem is not None:
                    raise problem from error
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                if attempt > self._retries:
                    raise MachineError(
                        f"{self.url / name}: cannot be read after {attempt} attempts ({reason}); check the network and "
                        "start the same command again, it goes on where it was"
                    ) from error
                _log.warning("%s: attempt %d of %d failed (%s)", self.url / name, attempt, self._retries + 1, reason)
            if self.stop.wait(pause * _jitter.uniform(0.5, 1.0)):  # ranks that failed together do not return together
                raise ReadInterruptedError
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise AssertionError


def _filesystem(url: Url) -> tuple[Any, str]:
    """Fsspec's file system for a URL and the folder's name in it."""
    protocol = url.text.partition("://")[0]
    options: dict[str, Any] = {}
    try:
        if protocol in ("http", "https") and "client_kwargs" not in fsspec.config.conf.get(protocol, {}):
            timeout = importlib.import_module("aiohttp").ClientTimeout
            options["client_kwargs"] = {"timeout": timeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)}
        system, root = fsspec.core.url_to_fs(url.text, **options)
    except ImportError as error:
        raise MachineError(
            f"{url}: {protocol}:// needs a package that is not installed ({error}); pip install -e .[remote]"
        ) from error
    except ValueError as error:
        raise ConfigError(f"data.root {url}: {protocol}:// is no protocol fsspec knows ({error})") from error
    return system, root.rstrip("/")


def _final(url: Url, error: Exception) -> QuellError | None:
    """What to say about an error that another attempt would meet again; None for all others."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return DataError(f"{url}: not there; check data.root and the split's name, or upload it")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
        return MachineError(
            f"{url}: access refused ({type(error).__name__}); give the protocol's credentials as docs/data.md says"
        )
    if status in GIVE_UP and status not in TRY_AGAIN:
        return MachineError(f"{url}: the server answers {status}; check data.root")
    if isinstance(error, (ImportError, TypeError)):
        return MachineError(
            f"{url}: cannot be read with the packages installed here ({error}); pip install -e .[remote]"
        )
    return None
