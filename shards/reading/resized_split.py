"""A split whose images are all shown in one size, resized when they are read."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from quell.shards.format.checksums import Bytes
from quell.shards.reading.pixels.resampling import Size, resize_antialiased
from quell.shards.reading.split import Samples, Split, StoredMember


class ResizedSplit(Split):
    """Another split, with every image resized as a whole by an antialiasing bicubic filter; all fields alike.

    Checksums are those of the stored members, and numbers and names of samples do not change.

    Args:
        split: What is stored.
        size: Height and width to show.
    """

    def __init__(self, split: Split, size: Size) -> None:  # deliberately without that of Split: this is not an index
        self._split, self.size = split, size
        self.path, self.notes, self.meta, self.statistics = split.path, split.notes, split.meta, split.statistics
        self.shards, self.fingerprint = split.shards, split.fingerprint
        self.encodings, self.remedy = split.encodings, split.remedy
        self.verify_every_read, self.needs_announcing = split.verify_every_read, split.needs_announcing
        self.concurrent_reads = split.concurrent_reads
        self.fields = {
            name: replace(info, shape=(*size, *([info.channels] if info.channels > 1 else [])), smallest=size)
            for name, info in split.fields.items()
        }

    def __len__(self) -> int:
        return len(self._split)

    def key(self, sample: int) -> str:
        """The sample's name in its shard."""
        return self._split.key(sample)

    def keys(self, samples: Samples) -> list[str]:
        """The names of several samples."""
        return self._split.keys(samples)

    def first_key_without(self, field: str) -> str | None:
        """The first sample that does not have a field."""
        return self._split.first_key_without(field)

    def locate(self, samples: Samples, field: str) -> list[StoredMember]:
        """Where one field of several samples is stored; the shapes are those shown."""
        return [self._shown(member) for member in self._split.locate(samples, field)]

    def member_bytes(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> Bytes:
        """A member as stored."""
        return self._split.member_bytes(sample, field, self._stored(sample, field), verify=verify)

    def interrupted(self) -> AbstractContextManager[None]:
        """Inside the block reads that wait for the network give up."""
        return self._split.interrupted()

    def expect(self, samples: np.ndarray) -> None:
        """Announce samples (n,) that will be read, in this order."""
        self._split.expect(samples)

    def read_member(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> np.ndarray:
        """The image of a member, resized, in its own dtype."""
        image = self._split.read_member(sample, field, self._stored(sample, field), verify=verify)
        return image if image.shape[:2] == self.size else resize_antialiased(image, self.size)

    def where(self, sample: int, field: str, member: StoredMember) -> str:
        """What messages call a member."""
        return self._split.where(sample, field, member)

    def _stored(self, sample: int, field: str) -> StoredMember:
        return self._split.locate([sample], field)[0]

    def _shown(self, member: StoredMember) -> StoredMember:
        height, width = self.size
        channels = member.plain_shape[2:]
        return member._replace(ndim=2 + len(channels), d0=height, d1=width, d2=channels[0] if channels else 0)


def as_shown(split: Split, resize: Sequence[int] | None) -> Split:
    """The split itself, or with its images in another size (height, width)."""
    return split if resize is None else ResizedSplit(split, Size(*resize))
