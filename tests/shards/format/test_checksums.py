"""Checksums are zlib's, whichever implementation computes them."""

import importlib
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from quell.shards.format import checksums


@pytest.fixture
def fresh() -> Iterator[None]:
    """The implementation is looked for again, before the test and after it."""
    checksums._fastest.cache_clear()
    yield
    checksums._fastest.cache_clear()


@pytest.mark.parametrize("is_installed", [True, False], ids=["fastest", "zlib"])
def test_checksums_are_those_of_zlib(is_installed: bool, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_installed:
        monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    data = np.random.default_rng(0).integers(0, 256, 100_003, dtype=np.uint8).tobytes()
    for size in (0, 1, 4095, 4096, 4097, 100_003):
        for kind in (bytes, bytearray, memoryview):
            assert checksums.crc32(kind(data[:size])) == zlib.crc32(data[:size])
    for cut in (1, 5000, 99_000):
        assert checksums.crc32(data[cut:], checksums.crc32(data[:cut])) == zlib.crc32(data)


def test_another_functions_results_are_not_trusted(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    monkeypatch.setattr(imagecodecs, "deflate_crc32", lambda data, crc: 0)
    data = bytes(10_000)
    assert checksums.crc32(data) == zlib.crc32(data)
