"""A split of a data set: plain tars opened through their index, any sample in constant time."""

import json
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from configs.errors import DataError
from configs.schema import CacheConfig
from shards.format import index, members, opening
from shards.format.members import Kind
from shards.format.open_files import Files

if TYPE_CHECKING:
    from shards.remote.store import Url


@dataclass(frozen=True)
class FieldInfo:
    """What one field holds over the whole split."""

    dtype: str
    """numpy's name; uint8 and uint16 images are read by the loader into [0, 1]."""
    shape: tuple[int, ...] | None
    """(H, W) or (H, W, C), or None when images differ in size."""
    channels: int
    smallest: tuple[int, int]
    """Smallest height and width, pixels."""
    count: int
    """Samples that have the field."""
    odd: str | None = None
    """The first sample of another dtype or number of channels, described; such a field cannot be loaded."""


class Member(NamedTuple):
    """A row of the index for one field of one sample; order as in shards.index.MEMBER, then the shard."""

    offset: int
    size: int
    crc: int
    start: int
    kind: int
    ndim: int
    d0: int
    d1: int
    d2: int
    shard: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""
        return (self.d0, self.d1, self.d2)[: self.ndim]

    @property
    def plain_shape(self) -> tuple[int, ...]:
        """Shape as read, (H, W) or (H, W, C)."""
        return (self.d0, self.d1) if self.ndim == 2 else index.plain_shape(self.shape)


class ShardSet:
    """Random access to the samples of one folder of tars. Open it with `ShardSet.open`."""

    def __init__(
        self,
        path: "Path | Url",
        header: dict[str, Any],
        table: np.ndarray,
        *,
        index_path: Path,
        files: Files,
        notes: Sequence[str] = (),
    ) -> None:
        self.path, self.index_path = path, index_path
        self.notes = notes
        """What the user should know about reading this split, in sentences."""
        self.meta: dict[str, Any] = header["meta"]
        self.statistics: dict[str, Any] = header["statistics"]
        self.shards: list[dict[str, Any]] = header["shards"]
        self.kinds = [Kind(**kind) for kind in header["kinds"]]
        self._straight_kinds = {
            number for number, kind in enumerate(self.kinds) if kind == Kind("npy", "<f4") and sys.byteorder == "little"
        }
        self.fields = {
            name: FieldInfo(
                **{**info, "shape": info["shape"] and tuple(info["shape"]), "smallest": tuple(info["smallest"])}
            )
            for name, info in header["fields"].items()
        }
        self.files = files
        self._table = table.view(np.ndarray)  # still mapped, without the cost of np.memmap's own indexing

    @classmethod
    def open(cls, path: str | Path, *, build_index: bool = True, cache: CacheConfig | None = None) -> "ShardSet":
        """The split at `path`, a folder of .tar files or its URL; `cache` says where remote shards are kept.

        Without an index one is made first, when `build_index` and the folder is local. Raises DataError when there are
        no shards, when one is damaged, or when the index does not belong to the tars.
        """
        if isinstance(path, str) and "://" in path:
            from shards.remote.opening import open_split  # fsspec costs time that local runs need not wait

            remote = open_split(path, cache or CacheConfig())
            return cls(
                remote.url,
                remote.header,
                remote.table,
                index_path=remote.folder,
                files=remote.files,
                notes=remote.notes,
            )
        folder = Path(path)
        shards = index.tars(folder)
        places = [place for place in index.locations(folder) if (place / index.HEADER).is_file()]
        if not places:
            if not build_index:
                raise DataError(f"{folder}: the shards have no index; run python -m shards.verify {folder} --repair")
            index.build(folder)
            places = [place for place in index.locations(folder) if (place / index.HEADER).is_file()]
        header, table = opening.load(places[0])
        opening.same_tars(folder, shards, header)
        return cls(folder, header, table, index_path=places[0], files=Files(folder, header["shards"]))

    def __len__(self) -> int:
        return len(self._table)

    def key(self, sample: int) -> str:
        """The sample's name in its shard."""
        return bytes(self._table["key"][sample]).decode()

    def keys(self, samples: Sequence[int] | np.ndarray) -> list[str]:
        """The names of several samples."""
        return [key.decode() for key in self._table["key"][samples].tolist()]

    def locate(self, samples: Sequence[int] | np.ndarray, field: str) -> list[Member]:
        """Index rows of one field for several samples. Raises DataError where a sample lacks the field."""
        rows = self._table[np.asarray(samples)]
        if field not in (rows.dtype.names or ())[2:]:
            raise DataError(f"{self.path}: no field '{field}' in these shards; they hold {', '.join(self.fields)}")
        found = [
            Member._make((*row, shard)) for row, shard in zip(rows[field].tolist(), rows["shard"].tolist(), strict=True)
        ]
        for sample, member in zip(samples, found, strict=True):
            if member.kind >= len(self.kinds):
                raise DataError(f"{self.where(sample, member.shard, field)} is missing")
        return found

    def read(self, sample: int, field: str, verify: bool = True) -> np.ndarray:
        """The image as stored, (H, W) or (H, W, C), native byte order.

        With `verify` the checksum is compared and NaN or Inf refused. Raises DataError naming shard and key.
        """
        (member,) = self.locate([sample], field)
        return self.read_member(sample, field, member, verify=verify)

    def read_member(self, sample: int, field: str, member: Member, *, verify: bool) -> np.ndarray:
        """`read` for a row that is already located."""
        data = self._bytes(sample, field, member, verify)
        try:
            image = members.decode(self.kinds[member.kind], member.start, member.shape, data)
        except (DataError, ValueError) as error:
            raise DataError(f"{self.where(sample, member.shard, field)}: {error}") from error
        if image.shape != member.shape:
            raise self.fault(sample, member, field, f"has shape {image.shape}, the index says {member.shape}")
        if verify:
            self.refuse_nan(sample, field, member, image)
        image = image.reshape(index.plain_shape(image.shape))
        return image.astype(image.dtype.newbyteorder("="), copy=False)

    def read_into(self, sample: int, field: str, member: Member, out: np.ndarray, *, verify: bool) -> bool:
        """Read the pixels straight into `out`, contiguous float32 of as many pixels; False when they are stored in
        another form and must be read and converted.
        """
        if member.kind not in self._straight_kinds:
            return False
        self._refuse_outside(sample, field, member)
        pixels = out.reshape(-1).view(np.uint8).data
        if member.start + len(pixels) != member.size:
            raise self.fault(sample, member, field, f"has {member.size} bytes, which {out.size} pixels do not fill")
        if not verify:
            self.files.read(member.shard, member.offset + member.start, [pixels])
            return True
        header = bytearray(member.start)
        self.files.read(member.shard, member.offset, [header, pixels])
        self.check_crc(sample, field, member, [header, pixels])
        self.refuse_nan(sample, field, member, out)
        return True

    def can_read_directly(self, member: Member, pixel_bytes: int) -> bool:
        """Whether a member's pixels can be read into float32 memory of that size as they are stored."""
        return (
            member.kind in self._straight_kinds
            and member.start + pixel_bytes == member.size
            and member.offset + member.size <= self.shards[member.shard]["size"]
        )

    def read_rows(self, sample: int, field: str, member: Member, top: int, height: int) -> np.ndarray:
        """Rows `top` to `top + height` of an image as stored; of a plain array nothing else is read from disk."""
        kind, shape = self.kinds[member.kind], member.plain_shape
        if kind.codec != "npy" or kind.fortran:
            return self.read_member(sample, field, member, verify=False)[top : top + height]
        self._refuse_outside(sample, field, member)
        rows = np.empty((height, *shape[1:]), dtype=kind.dtype)
        row_bytes = rows.nbytes // height
        assert top + height <= shape[0]
        if member.start + row_bytes * shape[0] != member.size:
            raise self.fault(sample, member, field, f"has {member.size} bytes, which shape {shape} does not fill")
        pixels = rows.reshape(-1).view(np.uint8).data
        self.files.read(member.shard, member.offset + member.start + top * row_bytes, [pixels])
        return rows.astype(rows.dtype.newbyteorder("="), copy=False)

    def shard_of(self, sample: int) -> int:
        """Number of the shard a sample lies in."""
        return int(self._table["shard"][sample])

    def shards_of(self, samples: np.ndarray) -> np.ndarray:
        """Numbers of the shards several samples lie in."""
        found: np.ndarray = self._table["shard"][samples]
        return found

    def column(self, field: str) -> np.ndarray:
        """The index of one field over all samples, dtype shards.index.MEMBER."""
        return self._table[field]

    def json(self, sample: int) -> dict[str, Any]:
        """The notes stored with a sample, or {}."""
        if "json" not in (self._table.dtype.names or ()) or self._table["json"]["kind"][sample] == index.MISSING:
            return {}
        (member,) = self.locate([sample], "json")
        try:
            notes = json.loads(bytes(self._bytes(sample, "json", member, True)))
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise self.fault(sample, member, "json", f"is not JSON ({error})") from error
        return notes if isinstance(notes, dict) else {"json": notes}

    def shape(self, sample: int, field: str) -> tuple[int, ...]:
        """Shape (H, W) or (H, W, C), without reading the image."""
        return index.plain_shape(self.locate([sample], field)[0].shape)

    def where(self, sample: int, shard: int, field: str) -> str:
        """How messages name a member."""
        return f"{self.files.paths[shard]}: sample {self.key(int(sample))}: field {field}"

    def fault(self, sample: int, member: Member, field: str, says: str) -> DataError:
        """A DataError about one member."""
        return DataError(f"{self.where(sample, member.shard, field)} {says}")

    def refuse_nan(self, sample: int, field: str, member: Member, image: np.ndarray) -> None:
        """Raise when an image holds NaN or Inf."""
        if image.dtype.kind in "fc" and not np.isfinite(image).all():
            raise self.fault(sample, member, field, "holds NaN or Inf; repair or leave out this sample")

    def check_crc(self, sample: int, field: str, member: Member, parts: Sequence[Any]) -> None:
        """Raise when the member's bytes, given in pieces, are not those that were indexed."""
        crc = 0
        for part in parts:
            crc = zlib.crc32(part, crc)
        if crc != member.crc:
            raise self.fault(
                sample, member, field, f"is damaged: its checksum differs from the index; {self.files.remedy}"
            )

    def _refuse_outside(self, sample: int, field: str, member: Member) -> None:
        if member.offset + member.size > self.shards[member.shard]["size"]:
            raise self.fault(sample, member, field, "lies outside its shard: the index is damaged")

    def _bytes(self, sample: int, field: str, member: Member, verify: bool) -> bytearray:
        self._refuse_outside(sample, field, member)
        data = bytearray(member.size)
        self.files.read(member.shard, member.offset, [data])
        if verify:
            self.check_crc(sample, field, member, [data])
        return data
