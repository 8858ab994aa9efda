"""A URL -> the split behind it: its index, fetched and checked, and files that read through the node's cache."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.errors import DataError, MachineError
from configs.schema import CacheConfig
from shards.format import index, opening, tar
from shards.remote.cache import Kept
from shards.remote.files import RemoteFiles
from shards.remote.store import Store, Url


class Opened(NamedTuple):
    """A remote split whose index is known to be whole."""

    url: Url
    header: dict[str, Any]
    table: np.ndarray
    files: RemoteFiles
    folder: Path
    """Where its copies lie."""
    notes: list[str]
    """What the user should know, in sentences."""


def open_split(url: str, config: CacheConfig) -> Opened:
    """The split at `url`.

    Raises DataError when there is no index, or it is damaged or belongs to another table, and MachineError for
    what network, credentials or the local disk have against it.
    """
    store = Store(Url(url.rstrip("/")), config.retries)
    text = _header_text(store)
    noted = _parsed(store.url / index.HEADER, text)
    size, shards = noted["table"]["size"], sum(shard["size"] for shard in noted["shards"])
    # The version is part of the key: copies of shards that were replaced are never read.
    kept = Kept(config, hashlib.sha256(str(store.url).encode() + b"\n" + text).hexdigest()[:24], store.stop)
    lacking = kept.reserve(size + shards)
    if lacking is not None and (even_less := kept.reserve(size)) is not None:
        raise MachineError(
            f"{store.url}: not even its index of {size / 1e9:.3g} GB can be kept, {even_less}; "
            "raise data.cache.max_gb or set data.cache.folder"
        )
    kept.file(index.HEADER, lambda at: iter([text[at:]]), lambda path: None)
    kept.file(
        index.TABLE,
        lambda at: store.pieces(index.TABLE, at, size),
        lambda path: _same_table(store.url / index.TABLE, path, noted["table"]),
    )
    header, table = opening.load(kept.folder)
    notes = (
        []
        if lacking is None
        else [
            f"{store.url}: {shards / 1e9:.3g} GB do not fit the cache at {kept.root} ({lacking}): every sample is read "
            f"over the network each time: up to {shards / 1e9:.3g} GB per epoch over all nodes; raise data.cache.max_gb"
        ]
    )
    files = RemoteFiles(store, kept, header, table, whole=lacking is None)
    return Opened(store.url, header, table, files, kept.folder, notes)


def read_header(url: str, retries: int) -> tuple[Store, dict[str, Any]]:
    """What the split at `url` is, without its table, and the store to read its shards from."""
    store = Store(Url(url.rstrip("/")), retries)
    return store, _parsed(store.url / index.HEADER, _header_text(store))


def _header_text(store: Store) -> bytes:
    try:
        return store.whole(index.HEADER)
    except DataError as error:
        raise DataError(
            f"{store.url / index.HEADER}: no index there; check data.root and the split's name, or run "
            "python -m shards.verify DIR --repair on the local folder and upload its index.json and "
            "index.npy beside the tars"
        ) from error


def _parsed(url: Url, text: bytes) -> dict[str, Any]:
    """The header, which must be as it was written."""
    advice = "upload index.json and index.npy again"
    try:
        header: dict[str, Any] = json.loads(text)
        whole = header["checksum"] == index.header_checksum(header)
        sizes = [header["table"]["size"], *(shard["size"] for shard in header["shards"])]
        inside = all(opening.is_plain_name(shard["name"]) for shard in header["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{url}: not an index of shards ({type(error).__name__}); {advice}") from error
    if not whole or not inside or not all(type(size) is int and size >= 0 for size in sizes):
        raise DataError(f"{url}: the index is damaged (checksum); {advice}")
    return header


def _same_table(url: Url, path: Path, noted: dict[str, Any]) -> None:
    """Raise DataError unless a copy is the table of the header, to the last byte."""
    with open(path, "rb") as file:
        found = index.table_print(file.fileno(), whole=True)
    ends = tar.Fingerprint._fields
    if any(found[key] != noted[key] for key in ends) or noted["whole"] not in (None, found["whole"]):
        raise DataError(f"{url}: does not belong to {index.HEADER} beside it; upload both again")
