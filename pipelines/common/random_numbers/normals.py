"""Standard-normal numbers of samples, each a function of its sample's seeds, its stream and its place."""

import math
import zlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from quell.configs.export_mode.flag import is_exporting
from quell.pipelines.common.random_numbers.split_mix import STREAM_WORDS, fill_words_, mix_

LANES = 64
"""Numbers are drawn in multiples of this: kernels then never end in elements that are computed one by one, whose last
bit may differ, and no number depends on how many others are drawn with it."""
CACHED_WORDS = 32768
"""Words drawn at once on a CPU: they fit its second-level cache, and one thread computes them."""


def stream_of(name: str) -> int:
    """The stream of a purpose, 0 to 2^32 - 1."""
    return zlib.crc32(name.encode())


def normals(seeds_N2: Tensor, streams: Sequence[int], count: int) -> Tensor:
    """Standard-normal numbers, float32 (N, streams, count), on the device of the seeds.

    By Box and Muller, Annals of Mathematical Statistics 29(2), 1958: the two halves of a word are a radius, which
    reaches 6.66, and an angle; a word becomes the numbers at i and at i + half of the count, rounded up to LANES.

    Args:
        seeds_N2: What `split_mix.stream_seeds` returns.
        streams: Numbers of what they are drawn for (`stream_of`), each with numbers of its own.
        count: Numbers per sample and stream.
    """
    pairs = ((count + 1) // 2 + LANES - 1) // LANES * LANES
    rows_R2 = seeds_N2.repeat_interleave(len(streams), 0) if len(streams) > 1 else seeds_N2
    firsts = [stream * STREAM_WORDS + 1 for stream in streams]
    if is_exporting():
        drawn = [_plain_normals(seeds_N2, first, pairs) for first in firsts]
        # copied, not sliced: tracing would ask how a view lies in memory, and keep the answer
        return torch.stack(drawn, 1).index_select(2, torch.arange(count, device=seeds_N2.device))
    numbers_R2P = torch.empty((len(rows_R2), 2, pairs), dtype=torch.float32, device=seeds_N2.device)
    if fills_in_parts(seeds_N2.device):
        _fill_in_parts(numbers_R2P, rows_R2, firsts)
    else:
        counters = [torch.arange(first, first + pairs, device=seeds_N2.device) for first in firsts]
        counters_RP = torch.stack(counters).repeat(len(seeds_N2), 1) if len(firsts) > 1 else counters[0]
        words_RP = torch.empty((len(rows_R2), pairs), dtype=torch.int64, device=seeds_N2.device)
        _to_normals(fill_words_(words_RP, rows_R2, counters_RP), numbers_R2P)
    return numbers_R2P.view(len(seeds_N2), len(streams), 2 * pairs)[..., :count]


def fills_in_parts(device: torch.device) -> bool:
    """Whether numbers are drawn in parts that fit a cache, instead of all at once in the fewest kernels."""
    return device.type == "cpu" and not is_exporting()


def parts(rows: int, columns: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """The parts in which numbers (rows, columns) are drawn on a device, all of them multiples of LANES wide."""
    if not fills_in_parts(device):
        yield slice(rows), slice(columns)
        return
    width = min(columns, CACHED_WORDS)
    height = max(CACHED_WORDS // width, 1)
    for left in range(0, columns, width):
        for top in range(0, rows, height):
            yield slice(top, min(top + height, rows)), slice(left, min(left + width, columns))


def _fill_in_parts(numbers_R2P: Tensor, seeds_R2: Tensor, firsts: Sequence[int]) -> None:
    """Fill on a CPU, in parts that stay in its cache; row r belongs to the stream with the first word r % streams."""
    streams, pairs = len(firsts), numbers_R2P.shape[2]
    words, scratch = (torch.empty(max(CACHED_WORDS, LANES), dtype=torch.int64) for _ in range(2))
    for offset, first in enumerate(firsts):
        own_N2P, own_N2 = numbers_R2P[offset::streams], seeds_R2[offset::streams]
        for rows, columns in parts(len(own_N2), pairs, seeds_R2.device):
            part_N2P = own_N2P[rows, :, columns]
            height, width = part_N2P.shape[::2]
            words_NP, scratch_NP = (memory[: height * width].view(height, width) for memory in (words, scratch))
            counters_P = torch.arange(first + columns.start, first + columns.stop)
            fill_words_(words_NP, own_N2[rows], counters_P, scratch=scratch_NP)
            _to_normals(words_NP, part_N2P)


def _plain_normals(seeds_N2: Tensor, first: int, pairs: int) -> Tensor:
    """The numbers of one stream, (N, 2 pairs), in operators that every runtime has."""
    counters_P = torch.arange(pairs, device=seeds_N2.device) + first
    words_NP = mix_(counters_P * seeds_N2[:, 1:] + seeds_N2[:, :1])
    low_NP = words_NP & 0xFFFFFFFF
    low_NP = torch.where(low_NP < 2**31, low_NP, low_NP - 2**32)
    radius_NP = (words_NP >> 32 & 0x7FFFFFFF).float() * 2.0**-31 + 2.0**-32
    radius_NP = (radius_NP.log() * -2).sqrt()
    angle_NP = low_NP.float() * (math.pi * 2.0**-31)
    return torch.cat([torch.cos(angle_NP) * radius_NP, torch.sin(angle_NP) * radius_NP], 1)


def _to_normals(words_RP: Tensor, numbers_R2P: Tensor) -> None:
    """Two standard-normal numbers from every word."""
    halves_RP2 = words_RP.view(torch.int32).view(*words_RP.shape, 2)  # of a little-endian machine, as all supported are
    radius_RP = halves_RP2[..., 1].bitwise_and(0x7FFFFFFF) * 2.0**-31
    radius_RP.add_(2.0**-32).log_().mul_(-2).sqrt_()
    angle_RP = halves_RP2[..., 0] * (math.pi * 2.0**-31)
    torch.mul(torch.cos(angle_RP), radius_RP, out=numbers_R2P[:, 0])
    torch.mul(angle_RP.sin_(), radius_RP, out=numbers_R2P[:, 1])
