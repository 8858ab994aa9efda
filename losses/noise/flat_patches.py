"""The spectrum of noise from patches without structure, without the bias of having chosen them.

The patches with the least power are not those of the least structure only, but also those where chance made the noise
weak: their mean power is too low, and lowest at the frequencies that were looked at. Frequencies are therefore divided
in two halves, a checkerboard of blocks: patches chosen by one half are measured in the other, where the noise is
independent of the choice while structure, which spreads over frequencies, is not.
"""

import numpy as np
from numpy.typing import NDArray

from quell.losses.noise import periodograms
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]

SHARE = 0.1
"""Share of the patches that is taken as free of structure."""
FEWEST = 30
"""At least so many patches are taken, if there are as many."""
ROUNDS = 6
"""Each round chooses anew, by the spectrum found in the last: convergence takes three or four."""
BLOCK = 6
"""Side of the checkerboard's blocks, in frequency steps: several times the window's blur of 2."""
CALIBRATION = {32: 1.03, 16: 1.09}
"""Factor of the power of chosen patches by their side: the halves are not quite independent. Measured on noise alone,
white and blurred by 1 px, where 3 in 10 patches were chosen."""
FLOOR = 1e-3
"""Smallest relative power: where noise is nearly 0 (zero-filled k-space), leaks of structure exceed it."""


def halves(size: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The two halves of the measured frequencies, (size, size) each; f and -f are in the same one."""
    steps = np.abs(np.fft.fftfreq(size) * size).astype(int)
    signs = np.sign(np.fft.fftfreq(size)).astype(int)
    quadrant = np.multiply.outer(signs, signs) < 0
    even = (np.add.outer(steps // BLOCK, steps // BLOCK) + quadrant) % 2 == 0
    usable = periodograms.measured(size)
    return even & usable, ~even & usable


def flat_spectrum(
    patches: Patches, level: Array | None = None, share: float = SHARE, start: Array | None = None
) -> Array:
    """Mean power (P, P) of the noise in the patches that have the least structure.

    Args:
        patches: Patches of noisy images.
        level: Relative standard deviation of the noise in each patch, (N,); 1 if not given.
        share: Share of the patches to take.
        start: A spectrum of such patches, from which one round is enough.
    """
    power = patches.power
    if level is not None:
        power = np.asarray(power / (level**2)[:, None, None], dtype=np.float32)
    parts = halves(patches.size)
    count, average = _count(len(patches), share), _typical if share < 1 else _mean
    if start is None:
        chosen = np.argsort(power[:, periodograms.measured(patches.size)].mean(1))[:count]
        start = _symmetric(power[chosen].mean(0, dtype=np.float64))
        rounds = ROUNDS
    else:
        rounds = 1
    spectrum = start
    for _ in range(rounds if share < 1 else 1):
        scores = [structure(power, spectrum, half) for half in parts]
        updated = np.zeros_like(spectrum)
        for half, other in ((0, 1), (1, 0)):
            chosen = np.argsort(scores[other])[:count]
            updated[parts[half]] = average(power[chosen])[parts[half]]
        spectrum = _symmetric(periodograms.fill_centre(updated))
    return spectrum if share >= 1 else CALIBRATION[patches.size] * spectrum


def structure(power: NDArray[np.float32], spectrum: Array, half: NDArray[np.bool_]) -> Array:
    """Mean power (N,) over a half of the frequencies, relative to the noise: 1 where there is noise only."""
    weights = np.where(half, 1 / np.maximum(spectrum, FLOOR * spectrum.max()), 0).astype(np.float32) / half.sum()
    return np.asarray(power.reshape(len(power), -1) @ weights.ravel(), dtype=np.float64)


def _count(patches: int, share: float) -> int:
    return min(patches, max(FEWEST, round(share * patches)))


def _symmetric(power: Array) -> Array:
    """The mean of S(f) and S(-f), which are equal for real noise."""
    mirrored = np.roll(power[::-1, ::-1], (1, 1), (0, 1))
    return np.asarray((power + mirrored) / 2)


def _mean(power: NDArray[np.float32]) -> Array:
    """Mean power (P, P) of all patches."""
    return power.mean(0, dtype=np.float64)


def _typical(power: NDArray[np.float32]) -> Array:
    """Mean power (P, P) of most patches: from the median, since the power of noise is exponentially distributed."""
    return np.asarray(np.median(power, axis=0) / np.log(2), dtype=np.float64)
