"""A folder behind a URL: byte ranges of its files through fsspec, requested again after network errors."""

import importlib
import itertools
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import fsspec

from quell.configs.errors import ConfigError, DataError, MachineError, QuellError
from quell.configs.support.logs import get_logger
from quell.configs.support.secrets import mask

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Pauses between attempts double from the first to the longest."""
CHUNK_BYTES = 8 * 2**20
"""Bytes of one request: what an error in the middle of a shard costs at most."""
CONNECT_S, SILENCE_S = 30.0, 60.0
"""Longest wait for an HTTP connection, and for the next bytes of a response."""
CLIENT_ERRORS, TRANSIENT = range(400, 500), (408, 425, 429)
"""HTTP statuses that mean the request is wrong, and those among them that pass: timeout, too early, too many."""

log = get_logger(__name__)
_jitter = random.Random()  # a generator of its own: the global one belongs to the training


@dataclass(frozen=True)
class Url:
    """A URL used like a path: `/` appends a part, `name` is the last part; shown without credentials."""

    text: str

    def __str__(self) -> str:
        return mask(self.text)

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]


class FileMissingError(DataError):
    """There is no such file at the URL."""


class _EndOfFileError(OSError):
    """A file ended before the bytes that were asked for."""


class ReadInterruptedError(Exception):
    """The reader was stopped while it waited for the network; never reaches the user."""


class _FileSystem(Protocol):
    """What is used of an fsspec file system, which ships no types."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of a file."""


class RemoteFolder:
    """Reads the files of one remote folder; safe from several threads.

    After a network error a request is repeated up to `retries` times. Every method raises MachineError when that is
    used up or the server refuses access, DataError at once for a file that does not exist, and ReadInterruptedError as
    soon as `stop` is set.
    """

    remedy = "it changed since it was indexed, or its index did: upload both again"
    """What the user can do about a shard that its index does not describe."""

    def __init__(self, url: Url, retries: int) -> None:
        self.url, self.stop = url, threading.Event()
        self.bytes_read = self.requests = 0
        """Bytes received over the network so far, and requests for them."""
        self._retries = retries
        self._system, self._root = _file_system(url)
        self._counting = threading.Lock()

    def read_file(self, name: str) -> bytes:
        """The content of a small file."""
        return self._retried(name, partial(self._request, name))

    def read(self, name: str, start: int, end: int, *, size: int | None = None) -> bytes:
        """Exactly the bytes [start, end); the rest of a truncated response is requested again.

        Where the `size` of the file is given, a server that ignores ranges and sends all of it is accepted too.
        """
        parts: list[bytes] = []
        position = start
        while position < end:
            part = self._retried(name, partial(self._request_range, name, position, end))
            if len(part) == size and len(part) > end - position:
                part = part[position:end]
            parts.append(part)
            position += len(part)
            if position > end:
                raise MachineError(
                    f"{self.url / name}: the server does not support range requests, so single samples cannot be "
                    "read: raise data.cache.max_gb until the split fits"
                )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, name: str, start: int, size: int) -> Generator[bytes, None, None]:
        """The bytes from `start` to the end of a file of `size` bytes, in chunks."""
        position = start
        while position < size:
            end = min(position + CHUNK_BYTES, size)
            chunk = self._retried(name, partial(self._request_range, name, position, end))
            if len(chunk) == size and position:  # the whole file: this server ignores ranges
                chunk = chunk[position:]
            if len(chunk) > size - position:
                raise DataError(
                    f"{self.url / name}: larger than the {size} bytes that were indexed; upload the shard and its "
                    "index again"
                )
            yield chunk
            position += len(chunk)

    def _request_range(self, name: str, start: int, end: int) -> bytes:
        data = self._request(name, start, end)
        if not data:
            raise _EndOfFileError(f"no bytes at {start}")
        return data

    def _request(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        data = self._system.cat_file(f"{self._root}/{name}", start=start, end=end)
        with self._counting:
            self.bytes_read += len(data)
            self.requests += 1
        return data

    def _retried(self, name: str, request: Callable[[], bytes]) -> bytes:
        """The response to a request, repeated after errors that may pass."""
        pause = FIRST_PAUSE_S
        for attempt in itertools.count(1):
            if self.stop.is_set():
                raise ReadInterruptedError
            try:
                return request()
            except Exception as error:
                lasting = _lasting_error(self.url / name, error)
                if lasting is not None:
                    raise lasting from error
                reason = f"{type(error).__name__}: {error}".partition("\n")[0]
                if attempt > self._retries and isinstance(error, _EndOfFileError):
                    raise DataError(
                        f"{self.url / name}: truncated, or replaced by a smaller file ({error}, where the index has "
                        "more); upload it again"
                    ) from error
                if attempt > self._retries:
                    raise MachineError(
                        f"{self.url / name}: cannot be read after {attempt} attempts ({reason}); check the network and "
                        "start the same command again, it continues where it stopped"
                    ) from error
                log.warning("%s: attempt %d of %d failed (%s)", self.url / name, attempt, self._retries + 1, reason)
            if self.stop.wait(pause * _jitter.uniform(0.5, 1.0)):  # ranks that failed together must not retry together
                raise ReadInterruptedError
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise AssertionError


def _file_system(url: Url) -> tuple[_FileSystem, str]:
    """Find the file system of a URL, and the name of the folder in it."""
    protocol = url.text.partition("://")[0]
    options: dict[str, object] = {}
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
        raise ConfigError(f"data.root {url}: fsspec does not know the protocol {protocol}:// ({error})") from error
    return system, root.rstrip("/")


def _lasting_error(url: Url, error: Exception) -> QuellError | None:
    """The error to raise where another attempt would fail in the same way; None where it may pass."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError):
        return FileMissingError(f"{url}: does not exist; check data.root and the split's name, or upload it")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
        return MachineError(
            f"{url}: access denied ({type(error).__name__}); set the protocol's credentials as in docs/data.md"
        )
    if status in CLIENT_ERRORS and status not in TRANSIENT:
        return MachineError(f"{url}: the server answers with status {status}; check data.root")
    if isinstance(error, ImportError | TypeError):
        return MachineError(
            f"{url}: cannot be read with the packages installed here ({error}); pip install -e .[remote]"
        )
    return None
