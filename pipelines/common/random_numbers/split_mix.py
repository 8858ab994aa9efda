"""SplitMix64, a counter-based generator, in torch operators: the same bits on every device.

A stream of SplitMix64 has a seed s and an odd increment g; its word number n, counted from 1, is mix(s + n g), a
permutation of 64 bits, and depends on nothing that was drawn before. Steele, Lea and Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014: the words pass DieHarder and TestU01's BigCrush. As in their `split`,
every sample here has an increment of its own besides its seed, so that no two samples share more than stray words.
Thirteen operators make a word; those of Philox4x32-10 or Threefry4x32-20 would launch over a hundred kernels.

torch has no unsigned 64-bit arithmetic: words are int64, whose sums and products wrap around, and right shifts are
masked.
"""

from typing import NamedTuple

import torch
from torch import Tensor

WORD = 1 << 64
GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, the default increment."""
STREAM_WORDS = 1 << 31
"""Words of a sample that belong to one purpose."""


class Mixer(NamedTuple):
    """Shifts and multipliers of a permutation of 64 bits: x ^= x >> shift, times a multiplier, twice, and a shift."""

    shifts: tuple[int, int, int]
    multipliers: tuple[int, int]


VARIANT_13 = Mixer((30, 27, 31), (0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Of words: Stafford's variant 13 of MurmurHash3's finalizer."""
MURMUR_3 = Mixer((33, 33, 33), (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53))
"""Of increments: the finalizer of MurmurHash3."""
ALTERNATING = 0xAAAAAAAAAAAAAAAA
LEAST_CHANGES = 24
"""An increment with fewer changes between neighbouring bits is too regular."""


def signed(word: int) -> int:
    """The 64 bits of a word as the int64 that torch takes."""
    word %= WORD
    return word - WORD if word >= WORD // 2 else word


def mixed(word: int, mixer: Mixer = VARIANT_13) -> int:
    """`mix_` of a word on the host."""
    word %= WORD
    for shift, multiplier in zip(mixer.shifts, (*mixer.multipliers, 1), strict=True):
        word = (word ^ word >> shift) * multiplier % WORD
    return word


class HostStream:
    """A stream on the host, for choices that Python makes; `place` numbers have been drawn from it."""

    def __init__(self, seed: int, place: int = 0) -> None:
        self.seed, self.place = seed, place

    def below(self, bound: int) -> int:
        """A whole number from 0 on."""
        self.place += 1
        return mixed(mixed(self.seed + GOLDEN) + self.place * GOLDEN) * bound >> 64


def mix_(words: Tensor, mixer: Mixer = VARIANT_13, *, scratch: Tensor | None = None) -> Tensor:
    """Permute words int64 in place; `scratch` has their shape."""
    scratch = torch.empty_like(words) if scratch is None else scratch
    for number, shift in enumerate(mixer.shifts):
        torch.bitwise_right_shift(words, shift, out=scratch).bitwise_and_((1 << 64 - shift) - 1)
        words.bitwise_xor_(scratch)
        if number < len(mixer.multipliers):
            words.mul_(signed(mixer.multipliers[number]))
    return words


def stream_seeds(seed: int, epochs_N: Tensor, samples_N: Tensor) -> Tensor:
    """What the random numbers of samples in an epoch are drawn from: seed and odd increment of each, int64 (N, 2).

    Args:
        seed: Of the run.
        epochs_N: Epoch of each sample, int64, below 2^23.
        samples_N: Number of each sample, int64, below 2^40.
    """
    numbers_N = (epochs_N << 40) + samples_N + 1
    seeds_N = mix_(numbers_N.mul_(signed(GOLDEN)).add_(signed(mixed(seed + GOLDEN))))
    gammas_N = mix_(seeds_N + signed(GOLDEN), MURMUR_3).bitwise_or_(1)
    changes_N = gammas_N ^ gammas_N >> 1
    is_regular_N = bit_count(changes_N) < LEAST_CHANGES
    return torch.stack([seeds_N, torch.where(is_regular_N, gammas_N ^ signed(ALTERNATING), gammas_N)], dim=1)


def bit_count(words: Tensor) -> Tensor:
    """How many bits of each word are set."""
    words = words - (words >> 1 & 0x5555555555555555)
    words = (words & 0x3333333333333333) + (words >> 2 & 0x3333333333333333)
    words = words + (words >> 4) & 0x0F0F0F0F0F0F0F0F
    return words * 0x0101010101010101 >> 56


def fill_words_(words_RP: Tensor, seeds_R2: Tensor, counters_P: Tensor, *, scratch: Tensor | None = None) -> Tensor:
    """Fill int64 (R, P) with the words of R streams at P counters."""
    torch.mul(counters_P, seeds_R2[:, 1:], out=words_RP).add_(seeds_R2[:, :1])
    return mix_(words_RP, scratch=scratch)
