"""Reads from a position of an open file, which several threads may do at once; Windows has none, and takes turns."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

Buffer = bytearray | memoryview
"""Memory to read into."""

_TURNS = tuple(threading.Lock() for _ in range(64))
"""One for each open file, as far as their numbers are different: threads must not move each other's file offset."""


def open_binary(path: Path) -> int:
    """The descriptor of a file that is opened for reading; child processes do not inherit it."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Up to `size` bytes from `offset` on; fewer at the end of the file."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _TURNS[descriptor % len(_TURNS)]:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def fill_at(descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Fill the buffers, one after the other, from `offset` on; how many bytes were read, which may be fewer."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, buffers, offset)
    done = 0
    with _TURNS[descriptor % len(_TURNS)], open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(offset)
        for buffer in buffers:
            count = file.readinto(buffer)
            done += count
            if count < len(buffer):
                break
    return done
