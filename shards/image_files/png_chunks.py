"""The checksums of a PNG file, most of which Pillow passes over: damaged pixels would be read without a word."""

import zlib
from pathlib import Path

from quell.configs.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
BLOCK_BYTES = 1 << 20


def check_chunks(path: Path) -> None:
    """Compare every chunk with its CRC-32.

    Raises:
        DataError: A chunk does not match, or the file ends inside one.
    """
    with open(path, "rb") as file:
        file.seek(len(SIGNATURE))
        while header := file.read(8):
            left, kind = int.from_bytes(header[:4], "big"), header[4:]
            if len(header) < 8 or not kind.isalpha() or not kind.isascii():
                raise DataError(f"{path}: damaged: what should be a chunk at byte {file.tell() - len(header)} is none")
            crc = zlib.crc32(kind)
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                crc, left = zlib.crc32(block, crc), left - len(block)
            if left or file.read(4) != crc.to_bytes(4, "big"):
                how = "the file ends inside" if left else "the checksum does not match in"
                raise DataError(f"{path}: damaged: {how} its chunk {kind.decode()}")
            if kind == b"IEND":
                return
