"""SplitMix64 as a hash (Steele, Lea, Flood, OOPSLA 2014): random bits for many keys in a few numpy operations."""

import numpy as np
from numpy.typing import NDArray

UInts = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / golden ratio, the generator's increment."""
_MASK = 2**64 - 1


def mix(values: UInts) -> UInts:
    """The finaliser: every output bit depends on every input bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def key_of(seed: int, stream: int) -> UInts:
    """One key, uint64 (1,), for a seed and the purpose that the numbers serve."""
    with np.errstate(over="ignore"):
        key = mix(np.array([seed & _MASK], dtype=np.uint64) + GOLDEN)
        return mix(key ^ np.array([stream & _MASK], dtype=np.uint64) * GOLDEN + GOLDEN)


def uniforms(seed: int, stream: int, epochs: np.ndarray, samples: np.ndarray, count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) that belong to each sample in its epoch, float64 (n, count).

    The generator's state starts at a hash of (seed, stream, epoch, sample), so the numbers of a sample do not depend on
    which others are drawn with it.
    """
    with np.errstate(over="ignore"):
        state = mix(key_of(seed, stream) + epochs.astype(np.uint64) * GOLDEN)
        state = mix(state ^ samples.astype(np.uint64) * GOLDEN + GOLDEN)
        bits = mix(state[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)
    return (bits >> np.uint64(11)) * 2.0**-53
