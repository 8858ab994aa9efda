"""The chain of pages in a TIFF file, each of which names the place of the next: damaged ones may never end."""

import os
from pathlib import Path
from typing import BinaryIO

from quell.configs.errors import DataError


def check_page_chain(path: Path) -> None:
    """Follow the chain to its end.

    Raises:
        DataError: It comes back to an earlier page, or leads out of the file.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(4)
        order = "little" if start[:2] == b"II" else "big"
        is_big = 43 in (start[2], start[3]) if len(start) == 4 else False
        count_bytes, entry_bytes, offset_bytes = (8, 20, 8) if is_big else (2, 12, 4)
        file.seek(8 if is_big else 4)
        visited: set[int] = set()
        offset = _number(file, offset_bytes, order)
        while offset:
            if offset in visited or offset + count_bytes > size:
                problem = "leads back to an earlier page" if offset in visited else "leads out of the file"
                raise DataError(f"{path}: damaged: the chain of pages {problem} after {len(visited)} pages")
            visited.add(offset)
            file.seek(offset)
            entries = _number(file, count_bytes, order)
            file.seek(offset + count_bytes + entries * entry_bytes)
            offset = _number(file, offset_bytes, order)  # 0 also where the file ends here


def _number(file: BinaryIO, count: int, order: str) -> int:
    return int.from_bytes(file.read(count), "little" if order == "little" else "big")
