"""A URL -> the split behind it: its index, downloaded and checked, and files that read through the node's cache."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from quell.configs.errors import DataError, MachineError
from quell.configs.schema import CacheConfig
from quell.shards.format import index
from quell.shards.format.index import IndexHeader
from quell.shards.remote.local_folder import LocalFolder
from quell.shards.remote.node_cache import CachedSplit
from quell.shards.remote.remote_files import RemoteShardFiles
from quell.shards.remote.remote_folder import RemoteFolder, Url

_UPLOAD_AGAIN = "upload index.json and index.npy again"


class RemoteSplit(NamedTuple):
    """A remote split whose index is known to be intact."""

    url: Url
    header: IndexHeader
    table: np.ndarray
    files: RemoteShardFiles
    folder: Path
    """Where its copies are."""
    notes: list[str]
    """What the user should know about reading it, in sentences."""


def open_remote_split(url: str, config: CacheConfig) -> RemoteSplit:
    """Open the split at `url`, whose shards are cached on the node if they all fit, and read in place otherwise.

    Raises:
        DataError: There is no index, it is damaged, or its two files do not belong together.
        MachineError: The network, the credentials or the local disk do not work.
    """
    remote = RemoteFolder(Url(url.rstrip("/")), config.retries)
    text = _header_text(remote)
    entry = _parsed(remote, text)
    table_size, shards_size = entry["table"]["size"], sum(shard["size"] for shard in entry["shards"])
    # The content of the header is part of the key: copies of shards that were replaced are never read.
    key = hashlib.sha256(str(remote.url).encode() + b"\n" + text).hexdigest()[:24]
    cached = CachedSplit(config, key, remote.stop)
    no_room = cached.reserve(table_size + shards_size)
    if no_room is not None and (no_room_for_index := cached.reserve(table_size)) is not None:
        raise MachineError(
            f"{remote.url}: not even its index of {table_size / 1e9:.3g} GB can be kept, {no_room_for_index}; "
            "raise data.cache.max_gb or set data.cache.folder"
        )
    cached.file(index.HEADER, lambda start: iter([text[start:]]), lambda path: None)
    cached.file(
        index.TABLE,
        lambda start: remote.chunks(index.TABLE, start, table_size),
        lambda path: index.check_table(
            remote.url / index.TABLE, path, entry["table"], remedy="upload both again", full=True
        ),
    )
    header, table = index.load(cached.folder)
    notes = []
    if no_room is not None:
        notes.append(
            f"{remote.url}: {shards_size / 1e9:.3g} GB do not fit the cache at {cached.root} ({no_room}): every sample "
            f"is read over the network each time: up to {shards_size / 1e9:.3g} GB per epoch over all nodes; raise "
            "data.cache.max_gb"
        )
    files = RemoteShardFiles(remote, cached, header, table, is_cached=no_room is None)
    return RemoteSplit(remote.url, header, table, files, cached.folder, notes)


def copied_to_node(
    folder: Path, location: Path, header: IndexHeader, table: np.ndarray, config: CacheConfig
) -> RemoteShardFiles | str:
    """The shards of a local split, each copied to the node when it is first read; or why there is no room for them.

    Args:
        folder: The split.
        location: Folder of its index.
        header: What the index says.
        table: Its rows.
        config: The cache for the copies.

    Raises:
        MachineError: The cache cannot be used.
    """
    source = LocalFolder(folder)
    text = (location / index.HEADER).read_bytes()
    key = hashlib.sha256(os.fsencode(folder.resolve()) + b"\n" + text).hexdigest()[:24]
    cached = CachedSplit(config, key, source.stop, for_local=True)
    size = sum(shard["size"] for shard in header["shards"])
    if (no_room := cached.reserve(size)) is not None:
        return (
            f"{folder}: {size / 1e9:.3g} GB do not fit the node's copies at {cached.root} ({no_room}): it is read "
            "where it is; raise data.cache.max_gb or set data.cache.folder"
        )
    return RemoteShardFiles(source, cached, header, table, is_cached=True)


def read_remote_header(url: str, retries: int) -> tuple[RemoteFolder, IndexHeader]:
    """The folder at `url` to read shards from, and the header of its index, without the table."""
    remote = RemoteFolder(Url(url.rstrip("/")), retries)
    return remote, _parsed(remote, _header_text(remote))


def _header_text(remote: RemoteFolder) -> bytes:
    try:
        return remote.read_file(index.HEADER)
    except DataError as error:
        raise DataError(
            f"{remote.url / index.HEADER}: no index there; check data.root and the split's name, or run "
            "python -m shards.verify DIR --repair on the local folder and upload its index.json and "
            "index.npy beside the tars"
        ) from error


def _parsed(remote: RemoteFolder, text: bytes) -> IndexHeader:
    return index.parse_header(remote.url / index.HEADER, text, remedy=_UPLOAD_AGAIN, needs_checksum=True)
