"""CRC-32 of pixels, as zlib computes it, in a tenth of the time where imagecodecs is installed."""

import importlib
import zlib
from collections.abc import Callable
from functools import lru_cache

MIN_FAST_BYTES = 4096
"""For less, zlib's own call is as fast; and a program that reads no pixels does not import imagecodecs."""

Bytes = bytes | bytearray | memoryview


def crc32(data: Bytes, crc: int = 0) -> int:
    """CRC-32 of contiguous bytes; `crc` is that of the bytes before them."""
    return _fastest()(data, crc) if len(data) >= MIN_FAST_BYTES else zlib.crc32(data, crc)


@lru_cache(maxsize=1)
def _fastest() -> Callable[[Bytes, int], int]:
    try:
        found: Callable[[Bytes, int], int] = importlib.import_module("imagecodecs").deflate_crc32
        return found if found(b"quell", 7) == zlib.crc32(b"quell", 7) else zlib.crc32
    except Exception:  # not installed, or without this function
        return zlib.crc32
