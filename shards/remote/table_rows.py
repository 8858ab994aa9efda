"""The rows of an index.npy behind a URL, read shard by shard: what a stream compares its samples with."""

import io
import zlib

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format import index, tar
from quell.shards.format.index import IndexHeader
from quell.shards.remote.remote_folder import RemoteFolder

MAX_HEADER_BYTES = 65_536


class TableRows:
    """The table of one remote split, of which the rows of one shard are in memory at a time.

    Args:
        folder: Where the split is.
        header: Its index header.

    Raises:
        DataError: The table is missing, damaged, or belongs to another header.
    """

    def __init__(self, folder: RemoteFolder, header: IndexHeader) -> None:
        self._folder, self._size = folder, header["table"]["size"]
        self._first = np.cumsum([0, *(shard["samples"] for shard in header["shards"])]).tolist()
        beginning = folder.read(index.TABLE, 0, min(self._size, tar.FINGERPRINT_BYTES), size=self._size)
        if zlib.crc32(beginning) != header["table"]["head"]:
            raise self._mismatch()
        try:
            file = io.BytesIO(beginning)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, self._dtype = read(file, max_header_size=MAX_HEADER_BYTES)
            self._start = file.tell()
        except (ValueError, EOFError) as error:
            raise self._mismatch() from error
        if shape != (header["samples"],) or self._start + shape[0] * self._dtype.itemsize != self._size:
            raise self._mismatch()
        if self._first[-1] != header["samples"]:
            raise DataError(
                f"{folder.url / index.HEADER}: its shards hold {self._first[-1]} samples, but the index says "
                f"{header['samples']}; upload the shards and both files of the index again"
            )

    def of_shard(self, number: int) -> np.ndarray:
        """The rows of a shard's samples in stored order."""
        width = self._dtype.itemsize
        start, end = (self._start + row * width for row in self._first[number : number + 2])
        data = self._folder.read(index.TABLE, start, end, size=self._size) if end > start else b""
        return np.frombuffer(data, self._dtype)

    def _mismatch(self) -> DataError:
        return DataError(
            f"{self._folder.url / index.TABLE}: does not belong to {index.HEADER} beside it; upload both again"
        )
