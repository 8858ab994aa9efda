"""A split opened through its index: any sample in constant time, from local shards or from behind a URL."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quell.configs.errors import DataError
from quell.configs.schema import CacheConfig
from quell.configs.support.json_files import parse_json
from quell.shards.format import index
from quell.shards.format.build_index import build_index
from quell.shards.format.checksums import crc32
from quell.shards.format.index import IndexHeader
from quell.shards.format.members import Encoding
from quell.shards.format.positioned_reads import Buffer
from quell.shards.format.shard_files import ShardFiles
from quell.shards.reading.split import Placement, Samples, Split, StoredMember, to_native

if TYPE_CHECKING:
    from quell.shards.remote.remote_folder import Url


class ShardSet(Split):
    """Random access to the samples of one split; open it with `ShardSet.open`.

    Attributes:
        fields: What each field holds over the whole split (`FieldInfo`), by name.
        meta: The builder's notes: data_range, sigma, source, licence, ...
        statistics: Range, mean, standard deviation and median of each field in stored units.
        shards: Name, size, fingerprint and number of samples of each shard.
        files: The open shards; `files.close()` closes them, and they reopen when needed.
    """

    def __init__(
        self,
        path: "Path | Url",
        header: IndexHeader,
        table: np.ndarray,
        *,
        index_path: Path,
        files: ShardFiles,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(path, header, shard_names=files.names, remedy=files.remedy, notes=notes)
        self.index_path, self.files = index_path, files
        self.verify_every_read = files.verify_every_read
        self.needs_announcing = files.needs_announcing
        self.concurrent_reads = files.concurrent_reads
        native_float = Encoding("npy", "<f4") if sys.byteorder == "little" else None
        self._direct_kinds = {number for number, encoding in enumerate(self.encodings) if encoding == native_float}
        """Encodings whose pixels are stored as a float32 batch holds them."""
        self._shard_sizes = np.array([shard["size"] for shard in self.shards], dtype=np.int64)
        self._table = table.view(np.ndarray)  # still mapped, but indexing np.memmap itself is slow

    @classmethod
    def open(
        cls, path: str | Path, *, build_index: bool = True, cache: CacheConfig | None = None, thorough: bool = False
    ) -> "ShardSet":
        """Open the split at `path`.

        Args:
            path: A folder of .tar files, or its URL.
            build_index: Whether to build the index of a local folder that has none.
            cache: Where copies of remote shards are kept, and whether local ones are copied too; by default as
                `CacheConfig` has it.
            thorough: Compare every byte of a large local index with its checksum, instead of its beginning and end.

        Raises:
            DataError: There are no shards, one is damaged, or the index does not belong to the tars.
            MachineError: The index cannot be written, or the network or the cache does not work.
        """
        if isinstance(path, str) and "://" in path:
            return cls._open_remote(path, cache or CacheConfig())
        folder = Path(path)
        shards = index.tars(folder)
        location = _index_location(folder, may_build=build_index)
        header, table = index.load(location, thorough=thorough)
        index.check_tars(folder, shards, header)
        files, notes = ShardFiles(folder, header["shards"]), list[str]()
        if cache is not None and cache.copy_local:
            from quell.shards.remote.open_split import copied_to_node  # imports fsspec, which takes time

            copies = copied_to_node(folder, location, header, table, cache)
            files, notes = (files, [copies]) if isinstance(copies, str) else (copies, [])
        return cls(folder, header, table, index_path=location, files=files, notes=notes)

    @classmethod
    def _open_remote(cls, url: str, cache: CacheConfig) -> "ShardSet":
        from quell.shards.remote.open_split import (
            open_remote_split,  # local runs need not spend the time to import fsspec
        )

        remote = open_remote_split(url, cache)
        return cls(
            remote.url,
            remote.header,
            remote.table,
            index_path=remote.folder,
            files=remote.files,
            notes=remote.notes,
        )

    def __len__(self) -> int:
        return len(self._table)

    def key(self, sample: int) -> str:
        """The sample's name in its shard."""
        return bytes(self._table["key"][sample]).decode(errors="backslashreplace")

    def keys(self, samples: Samples) -> list[str]:
        """The names of several samples."""
        return [key.decode(errors="backslashreplace") for key in self._table["key"][samples].tolist()]

    def first_key_without(self, field: str) -> str | None:
        """The first sample that does not have a field, or None."""
        is_missing = self.column(field)["kind"] == index.MISSING
        return self.key(int(is_missing.argmax())) if is_missing.any() else None

    def locate(self, samples: Samples, field: str) -> list[StoredMember]:
        """Index rows of one field for several samples. Raises DataError where a sample does not have the field."""
        rows = self._table[np.asarray(samples)]
        if field not in (rows.dtype.names or ())[2:]:
            raise DataError(f"{self.path}: no field '{field}' in these shards; they hold {', '.join(self.fields)}")
        stored = [
            StoredMember._make((*row, shard))
            for row, shard in zip(rows[field].tolist(), rows["shard"].tolist(), strict=True)
        ]
        for sample, member in zip(samples, stored, strict=True):
            if member.kind >= len(self.encodings):
                raise self.member_error(sample, field, member, "is missing")
        return stored

    def place(self, samples: np.ndarray, fields: Sequence[str]) -> dict[str, Placement]:
        """`locate` for several fields, as arrays: the rows of the samples are read once."""
        rows = self._table[samples]
        shards = rows["shard"].astype(np.int64)
        return {field: self._placement(samples, field, rows[field], shards) for field in fields}

    def read_plain(
        self, shards: Sequence[int], positions: Sequence[int], buffers: Sequence[memoryview]
    ) -> Iterator[None]:
        """Fill buffers straight from the shards; see `Split.read_plain`."""
        return self.files.read_each(shards, positions, buffers)

    def _placement(self, samples: np.ndarray, field: str, rows: np.ndarray, shards: np.ndarray) -> Placement:
        """Where one field is, given its rows. Raises DataError where a sample does not have it."""
        kinds = rows["kind"]
        if (kinds >= len(self.encodings)).any():
            self.locate(samples, field)  # raises with the name of the sample
        info = self.fields[field]
        if info.shape is not None:
            heights, widths = (np.full(len(rows), side, dtype=np.int64) for side in info.shape[:2])
        else:
            d0, d1, d2 = (rows[name].astype(np.int64) for name in ("d0", "d1", "d2"))
            has_leading_axis = (rows["ndim"] == 3) & (d0 == 1) & (d2 > 16)  # as in index.plain_shape
            heights, widths = np.where(has_leading_axis, d1, d0), np.where(has_leading_axis, d2, d1)
        dtype = np.dtype(info.dtype)
        plain_kinds = np.array([encoding == Encoding("npy", dtype.str) for encoding in self.encodings])
        sizes, starts = rows["size"].astype(np.int64), rows["start"].astype(np.int64)
        is_plain = plain_kinds[kinds] & (starts + heights * widths * (info.channels * dtype.itemsize) == sizes)
        offsets = rows["offset"].astype(np.int64)
        is_plain &= offsets + sizes <= self._shard_sizes[shards]
        return Placement(rows, shards, offsets + starts, heights, widths, is_plain & self.files.are_local)

    def read(self, sample: int, field: str, verify: bool = True) -> np.ndarray:
        """Read one image.

        Args:
            sample: Number of the sample.
            field: Name of the field.
            verify: Compare the checksum, and refuse NaN and Inf.

        Returns:
            The image as stored, (H, W) or (H, W, C), in native byte order.

        Raises:
            DataError: The sample does not have the field, or the member is damaged.
        """
        (member,) = self.locate([sample], field)
        return self.read_member(sample, field, member, verify=verify)

    def read_rows(self, sample: int, field: str, member: StoredMember, top: int, height: int) -> np.ndarray:
        """Rows `top` to `top + height` of an image, not verified; of a plain array nothing else is read from disk."""
        encoding, shape = self.encodings[member.kind], member.plain_shape
        if encoding.codec != "npy" or encoding.fortran:
            return super().read_rows(sample, field, member, top, height)
        self._refuse_outside(sample, field, member)
        rows = np.empty((height, *shape[1:]), dtype=encoding.dtype)
        row_bytes = rows.nbytes // height
        assert top + height <= shape[0]
        if member.start + row_bytes * shape[0] != member.size:
            raise self.member_error(
                sample, field, member, f"has {member.size} bytes, which shape {shape} does not fill"
            )
        pixels = rows.reshape(-1).view(np.uint8).data
        self.files.read(member.shard, member.offset + member.start + top * row_bytes, [pixels])
        return to_native(rows)

    def read_into(self, sample: int, field: str, member: StoredMember, out: np.ndarray, *, verify: bool) -> bool:
        """Read a member's pixels directly into `out`, contiguous float32 of as many pixels.

        Returns:
            False where they are stored in another form, and `out` was left alone.
        """
        if member.kind not in self._direct_kinds:
            return False
        self._refuse_outside(sample, field, member)
        pixels = out.reshape(-1).view(np.uint8).data
        if member.start + len(pixels) != member.size:
            raise self.member_error(
                sample, field, member, f"has {member.size} bytes, which {out.size} pixels do not fill"
            )
        if not verify:
            self.files.read(member.shard, member.offset + member.start, [pixels])
            return True
        header = bytearray(member.start)
        self.files.read(member.shard, member.offset, [header, pixels])
        self._check_crc(sample, field, member, [header, pixels])
        self.refuse_nonfinite(sample, field, member, out)
        return True

    def json(self, sample: int) -> dict[str, object]:
        """The JSON notes stored with a sample; empty where it has none."""
        if "json" not in (self._table.dtype.names or ()) or self._table["json"]["kind"][sample] == index.MISSING:
            return {}
        (member,) = self.locate([sample], "json")
        text = bytes(self.member_bytes(sample, "json", member, verify=True))
        try:
            notes = parse_json(text)
        except ValueError as error:
            raise self.member_error(sample, "json", member, f"is not valid JSON ({error})") from error
        return notes if isinstance(notes, dict) else {"json": notes}

    def shape(self, sample: int, field: str) -> tuple[int, ...]:
        """Shape (H, W) or (H, W, C), without reading the image."""
        return self.locate([sample], field)[0].plain_shape

    def shard_of(self, sample: int) -> int:
        """Number of the shard a sample is in."""
        return int(self._table["shard"][sample])

    @property
    def members(self) -> tuple[str, ...]:
        """The names of everything that samples may hold: the fields, and `json` where there are notes."""
        return (self._table.dtype.names or ())[2:]

    def column(self, field: str) -> np.ndarray:
        """The index of one field over all samples, (n,) of dtype `index.MEMBER`; `shard` is that of each sample."""
        return self._table[field]

    def expect(self, samples: np.ndarray) -> None:
        """Announce samples (n,) that will be read, in this order, so that remote shards are fetched ahead."""
        self.files.expect(self._table["shard"][samples].tolist())

    def interrupted(self) -> AbstractContextManager[None]:
        """Inside the block reads that wait for the network give up."""
        return self.files.interrupted()

    def member_bytes(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> memoryview:
        """A member as stored. Raises DataError where it cannot be read or, with `verify`, its checksum differs."""
        self._refuse_outside(sample, field, member)
        data = np.empty(member.size, dtype=np.uint8).data  # a bytearray would be filled with zeros first
        self.files.read(member.shard, member.offset, [data])
        if verify:
            self._check_crc(sample, field, member, [data])
        return data

    def _check_crc(self, sample: int, field: str, member: StoredMember, parts: Sequence[Buffer]) -> None:
        """Raise DataError where the member's bytes, given in parts, are not those that were indexed."""
        crc = 0
        for part in parts:
            crc = crc32(part, crc)
        if crc != member.crc:
            raise self.member_error(
                sample, field, member, f"is damaged: its checksum differs from the index; {self.remedy}"
            )

    def _refuse_outside(self, sample: int, field: str, member: StoredMember) -> None:
        if member.offset + member.size > self.shards[member.shard]["size"]:
            raise self.member_error(sample, field, member, "lies outside its shard: the index is damaged")


def _index_location(folder: Path, *, may_build: bool) -> Path:
    """The first place that has the index of a folder, which is built where there is none."""
    for is_retry in (False, True):
        for location in index.locations(folder):
            if (location / index.HEADER).is_file():
                return location
        if not may_build or is_retry:
            break
        build_index(folder)
    raise DataError(f"{folder}: the shards have no index; run python -m shards.verify {folder} --repair")
