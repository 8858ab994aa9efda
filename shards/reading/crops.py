"""Stored images -> the cropped and turned images of one field of a batch, for all its samples at once."""

import collections
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from quell.shards.reading.buffers import BufferPool
from quell.shards.reading.draws.geometry import Geometries, Turns
from quell.shards.reading.pixels import transforms
from quell.shards.reading.recipe import BoundField
from quell.shards.reading.split import Placement, Split
from quell.shards.reading.verification import Verification

CHUNK_BYTES = 1 << 19
"""Images are converted in portions that stay in the processor's cache."""
_FORWARD, _BACKWARD = slice(None), slice(None, None, -1)


class Crops(NamedTuple):
    """What one field of a batch shows of n samples; arrays (n,)."""

    samples: np.ndarray
    placement: Placement
    tops: np.ndarray
    lefts: np.ndarray
    turns: Turns
    theta: np.ndarray
    """Phase in radians."""
    positions: np.ndarray
    """Byte of the shard at which the crop's first row begins in a plain array."""
    in_place: np.ndarray
    """Whether a plain array's rows are the crop's, so that they can be read straight into the batch."""
    size: tuple[int, int]
    """Height and width of each crop."""

    @classmethod
    def of(
        cls, field: BoundField, samples: np.ndarray, placement: Placement, drawn: Geometries, crop: int | None
    ) -> "Crops":
        """The crops that were drawn; without a crop whole images, of which those of one batch have one size."""
        size = (crop, crop) if crop else (int(placement.heights[0]), int(placement.widths[0]))
        tops, lefts = drawn.corners(placement.heights, placement.widths, crop)
        turns = drawn.turns()
        row_bytes = placement.widths * (field.info.channels * np.dtype(field.info.dtype).itemsize)
        in_place = (placement.widths == size[1]) & ~(turns.rows | turns.columns | turns.transposed)
        positions = placement.pixels + tops * row_bytes
        return cls(samples, placement, tops, lefts, turns, drawn.theta, positions, in_place, size)

    def part(self, begin: int, end: int) -> "Crops":
        """Those of the samples [begin, end)."""
        part = slice(begin, end)
        return Crops(
            self.samples[part],
            self.placement.part(begin, end),
            self.tops[part],
            self.lefts[part],
            Turns(self.turns.rows[part], self.turns.columns[part], self.turns.transposed[part]),
            self.theta[part],
            self.positions[part],
            self.in_place[part],
            self.size,
        )


class CropReader:
    """Reads crops into batches; safe from several threads.

    Plain arrays are read in bands of rows, as many as the crop has: a read of a band and a copy of the crop out of it
    cost little more than a copy from a memory map would, and an error of the disk stays an error. What must be verified
    or decoded is read whole.

    Args:
        split: Where the samples come from.
        verification: Which members must be verified.
        buffers: Memory of the batches.
        pool: Threads that read and decode images of a batch at the same time; None does it in the caller's.
    """

    def __init__(
        self, split: Split, verification: Verification, buffers: BufferPool, pool: ThreadPoolExecutor | None
    ) -> None:
        self._split, self._verification, self._buffers, self._pool = split, verification, buffers, pool
        self._scratch = _Scratch()

    def empty(self, field: BoundField, crops: Crops) -> torch.Tensor:
        """The field's tensor (n, C, H, W), not filled."""
        shape = (len(crops.samples), field.spec.channels, *crops.size)
        return self._buffers.empty(shape, torch.complex64 if field.spec.is_complex else torch.float32)

    def read(self, field: BoundField, crops: Crops) -> torch.Tensor:
        """The field's tensor (n, C, H, W); integers are divided by their largest value.

        Raises:
            DataError: A member cannot be used; the message names shard, sample and field.
        """
        tensor = self.empty(field, crops)
        out_NCHW, channels, dtype = tensor.numpy(), field.info.channels, np.dtype(field.info.dtype)
        count, _, height, width = out_NCHW.shape
        is_plain = crops.placement.is_plain & self._verification.is_done(field.member, crops.samples)
        if channels == 1 and dtype == out_NCHW.dtype:  # stored as the batch holds it: read in place
            self._gather(field, crops, is_plain, out_NCHW.reshape(count, height, width, 1))
            return tensor
        image_bytes = height * width * channels * dtype.itemsize
        portion = count if self._pool is not None else max(1, CHUNK_BYTES // image_bytes)
        for begin in range(0, count, portion):
            end = min(begin + portion, count)
            raw_NHWC = self._scratch.array("raw", (end - begin, height, width, channels), dtype)
            part = crops if portion >= count else crops.part(begin, end)
            self._gather(field, part, is_plain[begin:end], raw_NHWC)
            transforms.convert(raw_NHWC, out_NCHW[begin:end], field.divisor)
        return tensor

    def image(self, field: BoundField, crops: Crops, i: int) -> np.ndarray:
        """One crop as it is stored, turned, (h, w) or (h, w, C)."""
        return crops.turns.apply(i, self._upright(field, crops, i))

    def _gather(self, field: BoundField, crops: Crops, is_plain: np.ndarray, raw_NHWC: np.ndarray) -> None:
        """All crops as they are stored."""
        if is_plain.all():
            self._read_plain(crops, raw_NHWC)
            return
        if is_plain.any():
            self._read_plain(crops, raw_NHWC, np.flatnonzero(is_plain))
        others = np.flatnonzero(~is_plain).tolist()

        def read(i: int) -> None:
            if not self._read_whole(field, crops, i, raw_NHWC[i]):
                image = self.image(field, crops, i)
                raw_NHWC[i] = image if image.ndim == 3 else image[..., None]

        for_each(self._pool, read, others)

    def _read_plain(self, crops: Crops, raw_NHWC: np.ndarray, chosen: np.ndarray | None = None) -> None:
        """Crops of plain arrays that need no verification: those chosen (k,), or all."""
        every = chosen is None
        shards, positions, in_place = (
            (values if every else values[chosen]).tolist()
            for values in (crops.placement.shards, crops.positions, crops.in_place)
        )
        places = range(len(shards)) if chosen is None else chosen.tolist()
        image_bytes = raw_NHWC[0].nbytes
        pixels = raw_NHWC.reshape(-1).view(np.uint8).data
        own = [pixels[i * image_bytes : (i + 1) * image_bytes] for i in places]
        if all(in_place):
            collections.deque(self._split.read_plain(shards, positions, own), maxlen=0)
            return
        # A grey image has no axis of channels here: two axes are copied faster than three.
        (count, height, width, channels), turns = raw_NHWC.shape, crops.turns
        axes = (channels,) if channels > 1 else ()
        targets = raw_NHWC.reshape(count, height, width, *axes)
        widths, lefts, rows, columns, transposed = (
            (values if every else values[chosen]).tolist() for values in (crops.placement.widths, crops.lefts, *turns)
        )
        bands = {wide: self._scratch.array("band", (height, wide, *axes), raw_NHWC.dtype) for wide in set(widths)}
        views = {wide: band.reshape(-1).view(np.uint8).data for wide, band in bands.items()}
        buffers = [own[k] if is_direct else views[widths[k]] for k, is_direct in enumerate(in_place)]
        for k, _ in enumerate(self._split.read_plain(shards, positions, buffers)):
            if not in_place[k]:
                shown = _columns(lefts[k], width, is_reversed=columns[k])
                window = bands[widths[k]][_BACKWARD if rows[k] else _FORWARD, shown]
                targets[places[k]] = window.swapaxes(0, 1) if transposed[k] else window

    def _read_whole(self, field: BoundField, crops: Crops, i: int, place_HWC: np.ndarray) -> bool:
        """Read a whole grey float32 image straight into its place, where it is stored so."""
        is_whole = crops.size == (crops.placement.heights[i], crops.placement.widths[i])
        if not is_whole or any(values[i] for values in crops.turns) or place_HWC.dtype != np.float32:
            return False
        sample, member = int(crops.samples[i]), crops.placement.stored(i)
        is_due = self._verification.is_due(field.member, sample)
        if not self._split.read_into(sample, field.member, member, place_HWC, verify=is_due):
            return False
        self._verification.done(field.member, sample)
        return True

    def _upright(self, field: BoundField, crops: Crops, i: int) -> np.ndarray:
        """The crop of an image that is verified, decoded, or fetched over a network, not turned yet: (h, w[, C])."""
        sample, member = int(crops.samples[i]), crops.placement.stored(i)
        top, left, (height, width) = int(crops.tops[i]), int(crops.lefts[i]), crops.size
        if self._verification.is_due(field.member, sample):
            image = self._split.read_member(sample, field.member, member, verify=True)[top : top + height]
            self._verification.done(field.member, sample)
        else:
            image = self._split.read_rows(sample, field.member, member, top, height)
        return image[:, left : left + width]


def for_each(pool: ThreadPoolExecutor | None, function: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Call a function with each number, in the pool's threads or, without one, in the caller's."""
    if pool is None:
        for number in numbers:
            function(number)
    else:
        list(pool.map(function, numbers))  # the list raises what a thread raised


def _columns(left: int, width: int, *, is_reversed: bool) -> slice:
    """The columns of a crop, forward or backward."""
    if not is_reversed:
        return slice(left, left + width)
    return slice(left + width - 1, left - 1 if left else None, -1)


class _Scratch:
    """Memory of each thread for what is read only to be copied."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def array(self, purpose: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of undefined content; the next one of the same purpose in this thread has the same memory."""
        size = int(np.prod(shape)) * dtype.itemsize
        memory = getattr(self._of_thread, purpose, None)
        if memory is None or len(memory) < size:
            memory = np.empty(size, dtype=np.uint8)
            setattr(self._of_thread, purpose, memory)
        return memory[:size].view(dtype).reshape(shape)
