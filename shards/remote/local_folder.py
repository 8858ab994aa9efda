"""A local folder of shards as the source of copies on the node: the disk that all nodes share, usually."""

import threading
from collections.abc import Generator
from pathlib import Path

from quell.configs.errors import DataError
from quell.shards.remote.remote_folder import CHUNK_BYTES, ReadInterruptedError


class LocalFolder:
    """Reads the files of one folder from the first to the last byte; the same methods as RemoteFolder."""

    remedy = "it changed since it was indexed: run python -m shards.verify DIR --repair"
    """What the user can do about a shard that its index does not describe."""

    def __init__(self, folder: Path) -> None:
        self.url, self.stop = folder, threading.Event()

    def read(self, name: str, start: int, end: int) -> bytes:
        """Exactly the bytes [start, end)."""
        return b"".join(self.chunks(name, start, end))

    def chunks(self, name: str, start: int, size: int) -> Generator[bytes, None, None]:
        """The bytes from `start` to `size`, in chunks."""
        try:
            with open(self.url / name, "rb", buffering=0) as file:
                file.seek(start)
                while start < size:
                    if self.stop.is_set():
                        raise ReadInterruptedError
                    chunk = file.read(min(CHUNK_BYTES, size - start))
                    if not chunk:
                        raise DataError(f"{self.url / name}: truncated at byte {start}; {self.remedy}")
                    yield chunk
                    start += len(chunk)
        except OSError as error:
            raise DataError(f"{self.url / name}: cannot be read ({error.strerror})") from error
