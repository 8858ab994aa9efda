"""Stream mode: shards are read from front to back and never kept, for data that fits no node's disk.

The order, and in what respect it is weaker than that of indexed mode, is `shards.reading.stream_order`.
"""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quell.configs.errors import DataError
from quell.shards.format import index, members
from quell.shards.format.index import IndexHeader, plain_shape
from quell.shards.format.members import MemberHeader
from quell.shards.reading import tar_stream
from quell.shards.reading.batch_assembler import Batch, BatchAssembler
from quell.shards.reading.loaders import BackgroundLoader, reading_pool
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.prefetch import Prefetcher
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet
from quell.shards.reading.split import Samples, Split, StoredMember
from quell.shards.reading.stream_order import SampleRun, StreamOrder, limited
from quell.shards.reading.verification import Verify
from quell.shards.remote.open_split import read_remote_header
from quell.shards.remote.remote_folder import FileMissingError, RemoteFolder
from quell.shards.remote.table_rows import TableRows

STREAM_NOTICE = (
    "data.mode stream: samples are shuffled by shards, and inside blocks of data.stream_buffer samples only; a "
    "resumed run repeats the order exactly with as many processes as before, after reading up to one shard and "
    "one block again; with another number of processes some samples of the current epoch come twice and others "
    "not at all; "
)
"""What a user must know before choosing this mode; how damage is noticed follows."""
_SAMPLES_CHECKED = (
    "unless data.verify is never, every sample is compared with its checksums before it is used, and every shard with "
    "its fingerprint at its end"
)
_SHARDS_CHECKED = (
    "there is no {table} beside {url}, so a damaged shard is noticed at its end only, after its samples were used"
)
_UNCHECKED = (
    "there is no {table} beside {url}, and its index is of an earlier version without checksums of shards: damage "
    "between the first and the last 64 KiB of a shard is not noticed; run python -m shards.verify DIR --repair on the "
    "local folder and upload index.json and index.npy"
)


@dataclass(frozen=True)
class _BufferedSample:
    """One sample in memory, not decoded yet."""

    number: int
    epoch: int
    shard: int
    key: str
    members: tar_stream.Members


class StreamedSet(Split):
    """A split of which only the index header is in memory, and the samples that a batch is being made from.

    Open it with `StreamedSet.open_stream`, and read it with a `StreamLoader`.
    """

    verify_every_read = True  # the bytes of each epoch are read anew

    def __init__(self, folder: RemoteFolder, header: IndexHeader, rows: TableRows | None) -> None:
        names = [str(folder.url / shard["name"]) for shard in header["shards"]]
        damage = _SAMPLES_CHECKED
        if rows is None:
            has_checksums = all("crc" in shard for shard in header["shards"])
            damage = (_SHARDS_CHECKED if has_checksums else _UNCHECKED).format(table=index.TABLE, url=folder.url)
        notes = [STREAM_NOTICE + damage]
        super().__init__(folder.url, header, shard_names=names, remedy=tar_stream.REMEDY, notes=notes)
        self._folder, self._size, self._rows = folder, header["samples"], rows
        self._numbers = {encoding: number for number, encoding in enumerate(self.encodings)}
        self._buffered: dict[int, _BufferedSample] = {}

    @classmethod
    def open_stream(cls, url: str, retries: int) -> "StreamedSet":
        """Open the split at a URL or a local path; failed requests are repeated up to `retries` times.

        Raises:
            DataError: It has no index, or a damaged one.
        """
        folder, header = read_remote_header(url if "://" in url else f"file://{Path(url).resolve()}", retries)
        try:
            rows = TableRows(folder, header)
        except FileMissingError:
            rows = None
        return cls(folder, header, rows)

    def __len__(self) -> int:
        return self._size

    def hold(self, samples: Sequence[_BufferedSample]) -> None:
        """Make these samples the ones that can be read."""
        self._buffered = {sample.number: sample for sample in samples}

    def key(self, sample: int) -> str:
        """The sample's name in its shard."""
        return self._buffered[sample].key

    def keys(self, samples: Samples) -> list[str]:
        """The names of several samples."""
        return [self.key(int(sample)) for sample in samples]

    def first_key_without(self, field: str) -> str | None:
        """Not known without reading the shards."""
        return None

    def locate(self, samples: Samples, field: str) -> list[StoredMember]:
        """One field of several samples in memory. Raises DataError where it is not what the index says."""
        return [self._stored(self._buffered[int(sample)], field) for sample in samples]

    def member_bytes(self, sample: int, field: str, member: StoredMember, *, verify: bool) -> bytes:
        """A member as it arrived; it was compared with its checksum then."""
        return self._buffered[sample].members[field][1]

    def read_shard(self, number: int, *, verify: bool) -> Generator[tuple[str, tar_stream.Members], None, None]:
        """Key and members of the samples of a shard in stored order; with `verify` those that match their checksums."""
        shard = self.shards[number]
        rows = self._rows.of_shard(number) if verify and self._rows is not None else None
        chunks = self._folder.chunks(shard["name"], 0, shard["size"])
        return tar_stream.samples(chunks, shard, self._shard_names[number], rows, verify=verify)

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Inside the block reads that wait for the network give up."""
        self._folder.stop.set()
        try:
            yield
        finally:
            self._folder.stop.clear()

    def _stored(self, sample: _BufferedSample, field: str) -> StoredMember:
        where = f"{self._shard_names[sample.shard]}: sample {sample.key}: field {field}"
        if field not in sample.members:
            raise DataError(f"{where} is missing")
        codec, data = sample.members[field]
        try:
            header = members.read_header(codec, data, len(data))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        self._check_header(where, field, header)
        kind, (d0, d1, d2) = self._numbers[header.encoding], (*header.shape, 0, 0, 0)[:3]
        return StoredMember(0, len(data), 0, header.start, kind, len(header.shape), d0, d1, d2, sample.shard)

    def _check_header(self, where: str, field: str, header: MemberHeader) -> None:
        """Raise DataError where a member is not like the index describes its field."""
        info, shape = self.fields[field], plain_shape(header.shape)
        dtype, channels = np.dtype(header.encoding.dtype).name, shape[2] if len(shape) == 3 else 1
        is_known = header.encoding in self._numbers and (dtype, channels) == (info.dtype, info.channels)
        if not is_known or info.shape not in (None, shape) or min(shape[:2]) < min(info.smallest):
            raise DataError(f"{where} is {shape} of {header.encoding.dtype}, not what the index says; {self.remedy}")


TrainingSplit = ShardSet | StreamedSet
"""What training reads from, in indexed and in stream mode."""


class StreamLoader(BackgroundLoader):
    """The training batches of one rank in stream mode, with the interface of `Loader`.

    `buffer` samples, and as many of the next block, are in memory undecoded. Unpaired fields show a sample that comes a
    little later in the order.

    Args:
        shards: The training split.
        order: Batches, ranks, seed and tail; `StreamOrder` decides which samples the batches hold.
        recipe: What a batch holds (shapes: `shards.reading.recipe`).
        buffer: Samples that are shuffled among each other.
        start_step: Step of the run that the first batches belong to.
        steps: Steps after which the iterator ends; None for never.
        prefetch: Steps assembled ahead of the consumer.
        verify: When checksums are compared, and NaN and Inf refused: at every read, for which `first` and `always` are
            the same here, or never.
        pin: Whether batches are in page-locked memory.
        threads: Images decoded at the same time; by default as many as this kind of data profits from.

    Raises:
        ConfigError: The recipe cannot be applied to these shards.
        DataError: The shards do not hold what the recipe needs. While iterating: a shard or sample is damaged.
        MachineError: While iterating: the network does not work.
    """

    def __init__(
        self,
        shards: StreamedSet,
        order: SampleOrder,
        recipe: Recipe,
        *,
        buffer: int,
        start_step: int = 0,
        steps: int | None = None,
        prefetch: int = 2,
        verify: Verify = "first",
        pin: bool = False,
        threads: int | None = None,
    ) -> None:
        counts = tuple(shard["samples"] for shard in shards.shards)
        self._shards, self._order, self._steps, self._verify = shards, order, steps, verify != "never"
        self._stream_order = StreamOrder(limited(counts, order.size), order, buffer)
        self._pool = reading_pool(shards, threads)
        self._assembler = BatchAssembler(shards, recipe, seed=order.seed, verify=verify, pin=pin, pool=self._pool)
        self._prefetcher: Prefetcher[list[Batch]] = Prefetcher(self._batches(start_step), prefetch)

    def __enter__(self) -> "StreamLoader":
        return self

    def __iter__(self) -> Iterator[list[Batch]]:
        return iter(self._prefetcher)

    def _batches(self, start: int) -> Generator[list[Batch], None, None]:
        waiting: deque[_BufferedSample] = deque()
        with closing(self._samples(start)) as incoming:
            for _ in itertools.count() if self._steps is None else range(self._steps):
                yield [self._batch(waiting, incoming) for _ in range(self._order.accumulate)]

    def _batch(self, waiting: deque[_BufferedSample], incoming: Iterator[_BufferedSample]) -> Batch:
        """The next batch: the first of `waiting`, filled up from `incoming`."""
        size, streams = self._order.micro_batch, self._assembler.streams
        while len(waiting) < size + len(streams) + 1:  # unpaired fields look so far ahead
            waiting.append(next(incoming))
        buffered = list(waiting)
        self._shards.hold(buffered)
        unpaired = {
            stream: np.array([_unpaired(buffered, i, distance, len(streams)) for i in range(size)], dtype=np.int64)
            for distance, stream in enumerate(streams, 1)
        }
        batch = self._assembler.batch(
            np.array([sample.epoch for sample in buffered[:size]], dtype=np.int64),
            np.array([sample.number for sample in buffered[:size]], dtype=np.int64),
            unpaired,
        )
        for _ in range(size):
            waiting.popleft()
        return batch

    def _samples(self, start: int) -> Generator[_BufferedSample, None, None]:
        """This rank's samples; while those of one block leave, the next block is read in step."""
        with closing(_Reader(self._shards, verify=self._verify)) as reader:
            blocks = self._stream_order.blocks(start)
            block = next(blocks)
            buffered = list(reader.read(block.epoch, block.runs))
            for next_block in blocks:
                source = reader.read(next_block.epoch, next_block.runs)
                next_buffered: list[_BufferedSample] = []
                for position in block.order.tolist():
                    yield buffered[position]
                    next_buffered += itertools.islice(source, 1)
                next_buffered += source
                block, buffered = next_block, next_buffered


class _Reader:
    """Reads runs of samples; where a run continues in the shard that is open, reading goes on from there."""

    def __init__(self, shards: StreamedSet, *, verify: bool) -> None:
        self._shards, self._verify = shards, verify
        self._first = np.cumsum([0, *(shard["samples"] for shard in shards.shards)])
        """Number of the first sample of each shard."""
        self._open: Generator[tuple[str, tar_stream.Members], None, None] | None = None
        self._position: tuple[int, int, int] = (-1, -1, 0)
        """Epoch, shard, and the sample that comes next in it."""

    def read(self, epoch: int, runs: Sequence[SampleRun]) -> Iterator[_BufferedSample]:
        """The samples of the runs, in order."""
        for run in runs:
            next_sample = self._position[2] if self._position[:2] == (epoch, run.shard) else run.first + 1
            if self._open is None or next_sample > run.first:  # another shard, or one that is past the run
                self.close()
                self._open, next_sample = self._shards.read_shard(run.shard, verify=self._verify), 0
            left = itertools.islice(self._open, run.last - next_sample)
            for number, (key, stored) in enumerate(left, next_sample):
                self._position = (epoch, run.shard, number + 1)
                if number >= run.first:
                    yield _BufferedSample(int(self._first[run.shard]) + number, epoch, run.shard, key, stored)
            if run.last == self._shards.shards[run.shard]["samples"]:
                for _ in self._open:  # there are no more samples: this reads to the end and compares the checksum
                    pass

    def close(self) -> None:
        """Stop reading."""
        if self._open is not None:
            self._open.close()
        self._open = None


def _unpaired(buffered: Sequence[_BufferedSample], position: int, distance: int, streams: int) -> int:
    """The sample `distance` places on; a later one where that is the same sample in the next epoch."""
    sample = buffered[position + distance]
    if sample.number == buffered[position].number:
        sample = buffered[position + streams + 1]
    return sample.number
