"""What every reader of a split offers: its description, and its samples as the loaders ask for them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format import members
from quell.shards.format.checksums import Bytes
from quell.shards.format.fingerprint import content_fingerprint
from quell.shards.format.index import MEMBER, FieldEntry, IndexHeader, plain_shape
from quell.shards.format.members import Encoding

if TYPE_CHECKING:
    from quell.shards.remote.remote_folder import Url

Samples = Sequence[int] | np.ndarray
"""Numbers of samples, counted from 0 over the whole split."""


@dataclass(frozen=True)
class FieldInfo:
    """What one field holds over the whole split."""

    dtype: str
    """numpy's name; the loaders scale uint8 and uint16 images to [0, 1]."""
    shape: tuple[int, ...] | None
    """(H, W) or (H, W, C), or None where images differ in size."""
    channels: int
    smallest: tuple[int, int]
    """Smallest height and width, pixels."""
    count: int
    """Samples that have the field."""
    first_mismatch: str | None = None
    """The first sample of another dtype or number of channels, described; such a field cannot be loaded."""

    @classmethod
    def of(cls, entry: FieldEntry) -> "FieldInfo":
        """The field as the index header describes it."""
        height, width = entry["smallest"]
        shape = None if entry["shape"] is None else tuple(entry["shape"])
        return cls(entry["dtype"], shape, entry["channels"], (height, width), entry["count"], entry["odd"])


class StoredMember(NamedTuple):
    """One field of one sample: its row of the index (`index.MEMBER`, in that order) and the shard it is in."""

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
        return (self.d0, self.d1) if self.ndim == 2 else plain_shape(self.shape)


class Placement(NamedTuple):
    """Where one field of n samples is stored, and how large its images are; arrays (n,)."""

    rows: np.ndarray
    """Their rows of the index, of dtype `index.MEMBER`."""
    shards: np.ndarray
    pixels: np.ndarray
    """Byte of the shard at which the first pixel of a plain array is."""
    heights: np.ndarray
    widths: np.ndarray
    is_plain: np.ndarray
    """Whether the pixels lie in a file on this machine, row by row, as numpy holds them."""

    @classmethod
    def of(cls, stored: Sequence[StoredMember]) -> "Placement":
        """Members that are read one by one."""
        rows = np.array([member[:-1] for member in stored], dtype=MEMBER)
        sizes = np.array([member.plain_shape[:2] for member in stored], dtype=np.int64).reshape(-1, 2)
        shards = np.array([member.shard for member in stored], dtype=np.int64)
        nowhere = np.zeros(len(stored), dtype=np.int64)
        return cls(rows, shards, nowhere, sizes[:, 0], sizes[:, 1], nowhere.astype(bool))

    def part(self, begin: int, end: int) -> "Placement":
        """That of the samples [begin, end)."""
        return Placement._make(values[begin:end] for values in self)

    def stored(self, i: int) -> StoredMember:
        """One of them."""
        return StoredMember._make((*self.rows[i].tolist(), int(self.shards[i])))


class Split(ABC):
    """One split of a data set: what its index header says, and access to its samples.

    `ShardSet` reads any sample of a split at any time; `StreamedSet` reads the shards from front to back and gives
    access to the samples that are in memory at the moment. The batch assembler works on either.
    """

    verify_every_read = False
    """Whether a checksum that matched once proves nothing for the next read of the same member."""
    needs_announcing = False
    """Whether `expect` does anything."""
    concurrent_reads = 1
    """Reads worth having in flight at once."""

    def __init__(
        self,
        path: "Path | Url",
        header: IndexHeader,
        *,
        shard_names: Sequence[str],
        remedy: str,
        notes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.notes = notes
        """What the user should know about reading this split, in sentences."""
        self.meta = header["meta"]
        self.statistics = header["statistics"]
        self.shards = header["shards"]
        self.fingerprint = content_fingerprint(header)
        """Of the content (shards.format.fingerprint), not of the place or the notes."""
        self.encodings = [Encoding(**entry) for entry in header["kinds"]]
        self.fields = {name: FieldInfo.of(entry) for name, entry in header["fields"].items()}
        self.remedy = remedy
        """What the user can do about a damaged shard, for messages."""
        self._shard_names = shard_names

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def key(self, sample: int) -> str:
        """The sample's name in its shard."""

    @abstractmethod
    def keys(self, samples: Samples) -> list[str]:
        """The names of several samples."""

    @abstractmethod
    def first_key_without(self, field: str) -> str | None:
        """The first sample that does not have a field; None where that is not known without reading the shards."""

    @abstractmethod
    def locate(self, samples: Samples, field: str) -> list[StoredMember]:
        """Where one field of several samples is stored. Raises DataError where a sample does not have the field."""

    def place(self, samples: np.ndarray, fields: Sequence[str]) -> dict[str, Placement]:
        """`locate` for several fields, as arrays."""
        return {field: Placement.of(self.locate(samples, field)) for field in fields}

    def read_plain(
        self, shards: Sequence[int], positions: Sequence[int], buffers: Sequence[memoryview]
    ) -> Iterator[None]:
        """Fill each buffer from its position in its shard, for placements that have `is_plain`; nothing is verified.

        What `place` returns here has none, so a split that leaves it as it is, such as a stream or one that is shown in
        another size, is never asked to.

        Yields:
            Whenever one is full, so that several may be the same memory.
        """
        raise AssertionError(f"{type(self).__name__} places no plain arrays")

    @abstractmethod
    def member_bytes(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> Bytes:
        """A member as stored. Raises DataError where it cannot be read or, with `verify`, its checksum differs."""

    @abstractmethod
    def interrupted(self) -> AbstractContextManager[None]:
        """Inside the block reads that wait for the network give up, so that a loader can be closed."""

    def expect(self, samples: np.ndarray) -> None:  # noqa: B027  local shards and streams need no announcement
        """Announce samples (n,) that will be read, in this order."""

    def read_member(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> np.ndarray:
        """The image of a member: (H, W) or (H, W, C), native byte order.

        With `verify` the checksum is compared, and NaN and Inf are refused.
        """
        data = self.member_bytes(sample, field, member, verify=verify)
        try:
            image = members.decode(self.encodings[member.kind], member.start, member.shape, data)
        except (DataError, ValueError) as error:
            raise DataError(f"{self.where(sample, field, member)}: {error}") from error
        if image.shape != member.shape:
            raise self.member_error(
                sample, field, member, f"has shape {image.shape}, but the index says {member.shape}"
            )
        if verify:
            self.refuse_nonfinite(sample, field, member, image)
        return to_native(image.reshape(plain_shape(image.shape)))

    def read_rows(self, sample: int, field: str, member: StoredMember, top: int, height: int) -> np.ndarray:
        """Rows `top` to `top + height` of an image, (height, W) or (height, W, C), not verified."""
        return self.read_member(sample, field, member, verify=False)[top : top + height]

    def read_into(self, sample: int, field: str, member: StoredMember, out: np.ndarray, *, verify: bool) -> bool:
        """Read a member's pixels directly into `out`, contiguous float32 of as many pixels.

        Returns:
            False where that is not possible, and `out` was left alone: the pixels must be decoded or converted.
        """
        return False

    def where(self, sample: int, field: str, member: StoredMember) -> str:
        """What messages call a member."""
        return f"{self._shard_names[member.shard]}: sample {self.key(int(sample))}: field {field}"

    def member_error(self, sample: int, field: str, member: StoredMember, problem: str) -> DataError:
        """A DataError about one member; `problem` continues the sentence that starts with its name."""
        return DataError(f"{self.where(sample, field, member)} {problem}")

    def refuse_nonfinite(self, sample: int, field: str, member: StoredMember, image: np.ndarray) -> None:
        """Raise DataError where an image contains NaN or Inf."""
        if image.dtype.kind == "c":  # its parts are checked in a quarter of the time
            image = np.ascontiguousarray(image).view(image.real.dtype)
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise self.member_error(sample, field, member, "contains NaN or Inf; repair or leave out this sample")


def to_native(image: np.ndarray) -> np.ndarray:
    """The image in the machine's byte order, without a copy where it is so already."""
    return image.astype(image.dtype.newbyteorder("="), copy=False)
