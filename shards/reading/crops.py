"""Stored images -> the cropped and turned images of one field of a batch, for all its samples at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from shards.reading.buffers import BufferPool
from shards.reading.draws.geometry import Turns
from shards.reading.recipe import BoundField
from shards.reading.split import Placement, Split
from shards.reading.verification import Verification

CHUNK_BYTES = 1 << 19
"""Images are converted in portions that stay in the processor's cache."""
_FORWARD, _BACKWARD = slice(None), slice(None, None, -1)


class Crops(NamedTuple):
    """What one field of a batch shows of n samples."""

    samples: np.ndarray
    placement: Placement
    tops: np.ndarray
    lefts: np.ndarray
    turns: Turns
    size: tuple[int, int]
    """Height and width of each crop."""


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
            self._gather(field, crops, is_plain, 0, out_NCHW.reshape(count, height, width, 1))
            return tensor
        image_bytes = height * width * channels * dtype.itemsize
        portion = count if self._pool is not None else max(1, CHUNK_BYTES // image_bytes)
        for begin in range(0, count, portion):
            raw_NHWC = self._scratch.array("raw", (min(portion, count - begin), height, width, channels), dtype)
            self._gather(field, crops, is_plain, begin, raw_NHWC)
            convert(raw_NHWC, out_NCHW[begin : begin + portion], field.divisor)
        return tensor

    def image(self, field: BoundField, crops: Crops, i: int) -> np.ndarray:
        """One crop as it is stored, turned, (h, w) or (h, w, C)."""
        return crops.turns.apply(i, self._upright(field, crops, i))

    def _gather(self, field: BoundField, crops: Crops, is_plain: np.ndarray, begin: int, raw_NHWC: np.ndarray) -> None:
        """The crops from number `begin` on, as many as `raw_NHWC` has room for, as they are stored."""
        part = is_plain[begin : begin + len(raw_NHWC)]
        if part.any():
            self._read_plain(crops, begin + np.flatnonzero(part), begin, raw_NHWC)
        others = [] if part.all() else (begin + np.flatnonzero(~part)).tolist()
        if not others:
            return

        def read(i: int) -> None:
            place_HWC = raw_NHWC[i - begin]
            if not self._read_whole(field, crops, i, place_HWC):
                image = self.image(field, crops, i)
                place_HWC[...] = image if image.ndim == 3 else image[..., None]

        if self._pool is None:
            for i in others:
                read(i)
        else:
            list(self._pool.map(read, others))  # the list raises what a thread raised

    def _read_plain(self, crops: Crops, chosen: np.ndarray, begin: int, raw_NHWC: np.ndarray) -> None:
        """Crops of plain arrays that need no verification."""
        placement, turns, (height, width) = crops.placement, crops.turns, crops.size
        pixel_bytes = raw_NHWC.shape[3] * raw_NHWC.itemsize
        widths, lefts = placement.widths[chosen], crops.lefts[chosen]
        is_turned = (turns.rows | turns.columns | turns.transposed)[chosen]
        in_place = ~is_turned & (widths == width)
        image_bytes = height * width * pixel_bytes
        pixels = raw_NHWC.reshape(-1).view(np.uint8).data
        starts = ((chosen - begin) * image_bytes).tolist()
        bands = {
            wide: self._scratch.array("band", (height, wide, *raw_NHWC.shape[3:]), raw_NHWC.dtype)
            for wide in set(widths[~in_place].tolist())
        }
        views = {wide: band.reshape(-1).view(np.uint8).data for wide, band in bands.items()}
        buffers = [
            pixels[start : start + image_bytes] if is_direct else views[wide]
            for start, is_direct, wide in zip(starts, in_place.tolist(), widths.tolist(), strict=True)
        ]
        # A grey image has no axis of channels here: two axes are copied faster than three.
        targets = raw_NHWC[..., 0] if raw_NHWC.shape[3] == 1 else raw_NHWC
        if raw_NHWC.shape[3] == 1:
            bands = {wide: band[..., 0] for wide, band in bands.items()}
        reads = self._split.read_plain(placement, chosen, crops.tops[chosen] * widths * pixel_bytes, buffers)
        for i, wide, left, is_direct, rows, columns, transposed, _ in zip(
            (chosen - begin).tolist(),
            widths.tolist(),
            lefts.tolist(),
            in_place.tolist(),
            turns.rows[chosen].tolist(),
            turns.columns[chosen].tolist(),
            turns.transposed[chosen].tolist(),
            reads,
            strict=True,
        ):
            if not is_direct:
                window = bands[wide][_BACKWARD if rows else _FORWARD, _columns(left, width, is_reversed=columns)]
                targets[i] = window.swapaxes(0, 1) if transposed else window

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


def convert(raw_NHWC: np.ndarray, out_NCHW: np.ndarray, divisor: float) -> None:
    """Write stored images into a batch.

    Args:
        raw_NHWC: Images of any dtype.
        out_NCHW: Where they go, float32 or complex64. A complex image stays complex in a complex place, becomes its
            real and imaginary part where there are two channels, and its magnitude otherwise.
        divisor: What real images are divided by.
    """
    if raw_NHWC.dtype.kind != "c":
        out_NCHW[...] = raw_NHWC.transpose(0, 3, 1, 2)
        if divisor != 1.0:
            np.multiply(out_NCHW, np.float32(1 / divisor), out=out_NCHW)
    elif out_NCHW.dtype.kind == "c":
        out_NCHW[...] = raw_NHWC.transpose(0, 3, 1, 2)
    elif out_NCHW.shape[1] == 2:
        out_NCHW[:, 0], out_NCHW[:, 1] = raw_NHWC.real[..., 0], raw_NHWC.imag[..., 0]
    else:
        np.abs(raw_NHWC[..., 0], out=out_NCHW[:, 0], casting="same_kind")


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
