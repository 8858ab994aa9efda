"""Binomial and Gamma numbers of samples, from the words of their streams, without waiting for a device.

Both reject candidates. A loop that ends when every number is accepted would read the device, so that a fixed number of
candidates is drawn, after which none is missing but once in 10^10 numbers; a CPU stops when it needs no more.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from quell.pipelines.common.random_numbers.normals import LANES, fills_in_parts, parts, stream_of
from quell.pipelines.common.random_numbers.split_mix import STREAM_WORDS, fill_words_

Words = Callable[[int], Tensor]
"""Number of a draw -> a word for each number of a part."""

CANDIDATES = 16
"""Of which each is accepted with a probability of 0.86 or more."""
FEW = 10.0
"""Expected count below which a binomial number is found by adding up probabilities."""
MOST_OF_FEW = 45
"""A count of which FEW are expected exceeds this once in 10^15."""
LEAST_PROBABILITY = 1e-9
"""Of a count; what lies beyond is rounding error of the sum before it."""


class Draw(NamedTuple):
    """What a method draws numbers of any distribution from."""

    seeds: Tensor
    """Of each sample, int64 (N, 2), from `split_mix.stream_seeds`."""
    purpose: str
    """What the numbers are for; another one gives other numbers."""


def binomial(draw: Draw, trials: Tensor, share: float) -> Tensor:
    """Successes among a number of trials, of which each succeeds with the probability `share`, 0 < share < 1.

    Candidates are transformed uniforms (BTRS; Hormann, Journal of Statistical Computation and Simulation 46, 1993).

    Args:
        draw: One seed per sample.
        trials: Whole numbers from 0 on, (N, ...).
        share: Probability.

    Returns:
        Whole numbers, of the shape and dtype of the trials.
    """
    rare = min(share, 1 - share)

    def of_part(words: Words, trials_NP: Tensor) -> Tensor:
        few = trials_NP * rare < FEW
        if not fills_in_parts(few.device):
            return torch.where(few, _few(words, trials_NP, rare), _many(words, trials_NP, rare))
        if few.all():
            return _few(words, trials_NP, rare)
        many = _many(words, trials_NP, rare)
        return torch.where(few, _few(words, trials_NP, rare), many) if few.any() else many

    successes = _by_parts(draw, trials, of_part)
    return successes if share <= 0.5 else trials - successes


def gamma(draw: Draw, like: Tensor, shape: float) -> Tensor:
    """Numbers of a Gamma distribution of scale 1, of the shape and dtype of `like` (N, ...).

    By Marsaglia and Tsang, ACM Transactions on Mathematical Software 26(3), 2000.
    """
    return _by_parts(draw, like, lambda words, like_NP: _gamma(words, like_NP, shape))


def _by_parts(draw: Draw, like: Tensor, of_part: Callable[[Words, Tensor], Tensor]) -> Tensor:
    """`of_part` on parts of the samples in the layout that `normals` draws in, and for the same reasons."""
    count = like[0].numel()
    like_NP = functional.pad(like.reshape(len(like), -1).float(), (0, -count % LANES))
    padded, first = like_NP.shape[1], stream_of(draw.purpose) * STREAM_WORDS + 1
    found_NP = torch.empty_like(like_NP)
    for rows, columns in parts(len(like), padded, like.device):
        place = torch.arange(first, first + padded, device=like.device)[columns]
        part_NP = like_NP[rows, columns].contiguous()

        def words(number: int, rows: slice = rows, place: Tensor = place, part_NP: Tensor = part_NP) -> Tensor:
            empty = torch.empty_like(part_NP, dtype=torch.int64)
            return fill_words_(empty, draw.seeds[rows], place + number * padded)

        found_NP[rows, columns] = of_part(words, part_NP)
    return found_NP[:, :count].reshape(like.shape).to(like.dtype)


def _uniforms(words: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers between 0 and 1 from every word, neither of them 0 or 1."""
    high, low = (words >> shift & (1 << 24) - 1 for shift in (40, 8))
    return tuple((half.float() + 0.5) * 2.0**-24 for half in (high, low))  # type: ignore[return-value]


def _few(words: Words, trials: Tensor, share: float) -> Tensor:
    """Binomial numbers of few expected successes: how many of the probabilities of 0, 1, ... a uniform exceeds."""
    trials = trials.clamp(max=FEW / share)
    uniform, _ = _uniforms(words(CANDIDATES))
    probability = torch.exp(trials * math.log1p(-share))
    total, successes = probability.clone(), torch.zeros_like(trials)
    for count in range(1, MOST_OF_FEW + 1):
        probability = probability * (trials - (count - 1)).clamp(min=0) * (share / (1 - share) / count)
        successes += (uniform > total) & (probability > LEAST_PROBABILITY)
        total += probability
    return successes


def _many(words: Words, trials: Tensor, share: float) -> Tensor:
    """Binomial numbers of FEW or more expected successes, by transformed rejection."""
    n, odds = trials.clamp(min=math.ceil(FEW / share)), share / (1 - share)
    deviation = (n * (share * (1 - share))).sqrt()
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * share
    mode = ((n + 1) * share).floor()
    at_mode = (mode + 0.5) * ((mode + 1) / (odds * (n - mode + 1))).log() + _stirling(mode) + _stirling(n - mode)
    successes, is_missing = mode.clone(), torch.ones_like(mode, dtype=torch.bool)
    for number in range(CANDIDATES):
        first, second = _uniforms(words(number))
        centred = first - 0.5
        edge = 0.5 - centred.abs()
        count = ((2 * a / edge + b) * centred + n * share + 0.5).floor()
        is_possible = (count >= 0) & (count <= n)
        k = torch.where(is_possible, count, mode)
        height = (second * ((2.83 + 5.1 / b) * deviation) / (a / edge.square() + b)).log()
        bound = at_mode + (n + 1) * ((n - mode + 1) / (n - k + 1)).log()
        bound = bound + (k + 0.5) * (odds * (n - k + 1) / (k + 1)).log() - _stirling(k) - _stirling(n - k)
        is_accepted = is_possible & (height <= bound)
        successes = torch.where(is_missing & is_accepted, k, successes)
        is_missing &= ~is_accepted
        if fills_in_parts(trials.device) and not is_missing.any():
            break
    return successes


def _stirling(k: Tensor) -> Tensor:
    """Log k! less Stirling's approximation (k + 1/2) log(k + 1) - (k + 1) + log(2 pi) / 2."""
    n = k + 1
    series = (1 / 12 - (1 / 360 - 1 / 1260 / n.square()) / n.square()) / n
    exact = torch.lgamma(n) - ((k + 0.5) * n.log() - n + 0.5 * math.log(2 * math.pi))
    return torch.where(k < FEW, exact, series)


def _gamma(words: Words, like: Tensor, shape: float) -> Tensor:
    raised = shape if shape >= 1 else shape + 1
    d = raised - 1 / 3
    c = 1 / math.sqrt(9 * d)
    found, is_missing = torch.full_like(like, d), torch.ones_like(like, dtype=torch.bool)
    for number in range(0, CANDIDATES, 2):
        radius, angle = _uniforms(words(number))
        normal = (-2 * radius.log()).sqrt() * torch.cos(2 * math.pi * angle)
        cube = (1 + c * normal) ** 3
        bound = 0.5 * normal.square() + d - d * cube + d * cube.clamp(min=1e-30).log()
        is_accepted = (cube > 0) & (_uniforms(words(number + 1))[0].log() < bound)
        found = torch.where(is_missing & is_accepted, d * cube, found)
        is_missing &= ~is_accepted
        if fills_in_parts(like.device) and not is_missing.any():
            break
    if shape >= 1:
        return found
    return found * _uniforms(words(CANDIDATES))[0] ** (1 / shape)
