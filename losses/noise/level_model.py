"""What the level of noise follows: nothing, the position in the image, or the signal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quell.losses.noise import rician

Array = NDArray[np.float64]

ORDER = 4
"""Highest order of the cosines that describe a map: a half wave per image side and order, summed over both axes."""
GRID = 32
"""Side of a map, in pixels: more than its cosines need."""
GAINS = np.geomspace(0.02, 1e5, 90)
"""Signal-dependent variance that is tried, per signal-independent variance, at the brightest patch."""
NEEDED = 0.75
"""A dependence is believed if it leaves at most this share of the scatter of log levels that is there without it."""
STEPS = 12
"""Steps of the robust fit."""
LARGEST = 1.5
"""Largest residual of a log variance that counts: patches with structure may exceed it."""
CHANCE = {32: 0.12, 16: 0.26}
"""Scatter of log variances that chance explains, by the side of the patches."""
SIMPLER = 1.1
"""Poisson noise is preferred to multiplicative noise if it explains levels almost as well."""


@dataclass(frozen=True, eq=False)
class LevelModel:
    """A fitted model of the noise's variance."""

    kind: str
    """`uniform`, `map`, `poisson`, `multiplicative` or `rician`."""
    image_variance: dict[int, float]
    """Variance of each image where the model's shape is 1: its floor, its mean over a map, or sigma**2 if Rician."""
    scatter: float
    """Scatter of the measured log variances around the model."""
    coefficient: float = 0.0
    """Variance per unit of signal (poisson) or squared signal (multiplicative) over the floor; sigma if rician."""
    cosines: Array | None = None
    """Coefficients of the log variance's map."""

    def shape(self, mean: Array, position: Array) -> Array:
        """Variance relative to the image's, (N,), of patches with this mean (N,) and position (N, 2)."""
        if self.kind == "map":
            assert self.cosines is not None
            return np.asarray(np.exp(_cosines(position) @ self.cosines))
        return _shape(self.kind, self.coefficient, mean)

    def variance_of(self, image: NDArray[np.int64]) -> Array:
        """The variance of each of these images, (N,); the mean over images where none of an image was measured."""
        mean = float(np.mean(list(self.image_variance.values())))
        return np.array([self.image_variance.get(int(number), mean) for number in image])

    def map_variance(self) -> Array | None:
        """Variance relative to the image's, (GRID, GRID), over the whole image; None unless the model is a map."""
        if self.cosines is None:
            return None
        centres = (np.arange(GRID) + 0.5) / GRID
        position = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 2)
        return self.shape(np.zeros(len(position)), position).reshape(GRID, GRID)


def fit(variance: Array, mean: Array, position: Array, image: NDArray[np.int64], chance: float) -> LevelModel:
    """The simplest model that explains measured variances.

    Args:
        variance: Measured variance of patches, (M,).
        mean: Mean of the image in each, (M,).
        position: Position of each, from 0 to 1, (M, 2).
        image: Number of the image of each, (M,).
        chance: Scatter of log variances that chance explains.
    """
    log_variance = np.log(np.maximum(variance, 1e-30))
    images, index = np.unique(image, return_inverse=True)

    def result(kind: str, coefficient: float) -> LevelModel:
        residual = log_variance - np.log(_shape(kind, coefficient, mean))
        offsets = _image_offsets(residual, index, len(images))
        variances = dict(zip(images.tolist(), np.exp(offsets).tolist(), strict=True))
        return LevelModel(kind, variances, _scatter(residual - offsets[index]), coefficient)

    uniform = result("uniform", 0.0)
    brightest = max(float(np.quantile(np.abs(mean), 0.99)), 1e-12)
    poisson, multiplicative = (
        min((result(kind, gain / brightest**power) for gain in GAINS), key=lambda model: model.scatter)
        for kind, power in (("poisson", 1), ("multiplicative", 2))
    )
    candidates = [poisson if poisson.scatter < SIMPLER * multiplicative.scatter else multiplicative]
    candidates += [_fit_map(log_variance, position, index, images, chance)]
    best = min(candidates, key=lambda model: model.scatter)
    excess, left = (np.sqrt(max(model.scatter**2 - chance**2, 0)) for model in (uniform, best))
    return best if best.scatter < NEEDED * uniform.scatter and left < excess else uniform


def _shape(kind: str, coefficient: float, mean: Array) -> Array:
    if kind == "poisson":
        return np.asarray(1 + coefficient * mean.clip(0))
    if kind == "multiplicative":
        return np.asarray(1 + coefficient * mean**2)
    if kind == "rician":
        return rician.relative_variance(mean / coefficient)
    return np.ones_like(mean)


def _fit_map(
    log_variance: Array, position: Array, index: NDArray[np.int64], images: NDArray[np.int64], chance: float
) -> LevelModel:
    """Images' levels and cosines that they share, fitted robustly against patches with structure."""
    terms = _cosines(position)
    offsets = _image_offsets(log_variance, index, len(images))
    coefficients = np.zeros(terms.shape[1])
    ridge = 1e-2 * len(terms) / terms.shape[1] * np.eye(terms.shape[1])
    for _ in range(STEPS):
        residual = log_variance - offsets[index] - terms @ coefficients
        weights = _weights(residual, 0.7 * chance)
        target = log_variance - offsets[index]
        coefficients = np.linalg.solve(terms.T @ (weights[:, None] * terms) + ridge, terms.T @ (weights * target))
        offsets = _image_offsets(log_variance - terms @ coefficients, index, len(images))
    scatter = _scatter(log_variance - offsets[index] - terms @ coefficients)
    variances = dict(zip(images.tolist(), np.exp(offsets).tolist(), strict=True))
    return LevelModel("map", variances, scatter, cosines=coefficients)


def _cosines(position: Array) -> Array:
    """Products of cosines along rows and columns at these positions, (N, terms), without the constant."""
    orders = [(row, column) for row in range(ORDER + 1) for column in range(ORDER + 1) if 0 < row + column <= ORDER]
    return np.stack(
        [np.cos(np.pi * row * position[:, 0]) * np.cos(np.pi * column * position[:, 1]) for row, column in orders], -1
    )


def _weights(residual: Array, limit: float) -> Array:
    """Huber's weights, for residuals that are too large only: structure adds power, and nothing takes it away."""
    return np.asarray(np.minimum(1, limit / np.maximum(residual - np.median(residual), limit)))


def _image_offsets(residual: Array, index: NDArray[np.int64], count: int) -> Array:
    """Median of the log variance of every image."""
    return np.array([np.median(residual[index == number]) for number in range(count)])


def _scatter(residual: Array) -> float:
    """Robust standard deviation: from the mean of absolute values, of which none counts more than LARGEST."""
    deviation = np.abs(residual - np.median(residual))
    return float(np.sqrt(np.pi / 2) * np.minimum(deviation, LARGEST).mean())
