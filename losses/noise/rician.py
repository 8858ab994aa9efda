"""Noise of magnitude images, which is Rician: recognised by the air around the body, and what it says of the noise.

Without signal, the magnitude of complex Gaussian noise has a Rayleigh distribution: its mean is 1.91 times its standard
deviation, whatever its spectrum. Where the signal is far above the noise, the magnitude has the noise of a component.
Sources: Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", MRM 34:910, 1995; Aja-Fernandez et al.,
"Noise estimation in single- and multiple-coil magnetic resonance data", MRI 27:1397, 2009.
"""

import numpy as np
import scipy
from numpy.typing import NDArray

from quell.losses.noise import periodograms
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]

RAYLEIGH_MEAN = float(np.sqrt(np.pi / 2))
"""Mean of a Rayleigh variable, in units of sigma."""
RAYLEIGH_VARIANCE = 2 - np.pi / 2
"""Variance of a Rayleigh variable, in units of sigma**2."""
RATIOS, SINGLE_RATIOS = (1.75, 2.1), (1.6, 2.4)
"""Mean over standard deviation, which is 1.91 in air: the median of dark patches, and what single ones may have."""
DARKEST = 0.03
"""Share of the patches among which air is looked for first."""
SPREAD = 0.25
"""Patches of air have the same mean but for this share of it."""
FEWEST = 20
"""Patches of air that are needed to be sure."""
NEGLIGIBLE = 0.006
"""Correlations between magnitudes in air below this are not told from 0."""
SIGN = 0.02
"""Correlations in tissue below minus this are taken as negative."""
TABLE = np.linspace(0, 12, 1201)
"""Signal-to-noise ratios at which moments are tabulated."""


def air(patches: Patches) -> NDArray[np.bool_]:
    """Which patches (N,) of images without negative values are air with Rayleigh noise: none or at least FEWEST."""
    nothing = np.zeros(len(patches), bool)
    darkest = patches.mean <= np.quantile(patches.mean, DARKEST)
    level = max(float(np.median(patches.mean[darkest])), 1e-30)
    alike = np.abs(patches.mean / level - 1) < SPREAD
    ratio = patches.mean / np.sqrt(np.maximum(patches.variance, 1e-30))
    found = alike & (ratio > SINGLE_RATIOS[0]) & (ratio < SINGLE_RATIOS[1])
    is_air = found.sum() >= FEWEST and RATIOS[0] < np.median(ratio[alike]) < RATIOS[1]
    return found if is_air and found.sum() > alike.sum() / 2 else nothing


def sigma_of_air(patches: Patches) -> float:
    """Sigma of the components, from the mean of the squared magnitude in air, which is 2 sigma**2."""
    return float(np.sqrt(np.median(patches.mean**2 + patches.variance) / 2))


def relative_variance(mean: Array) -> Array:
    """Variance of a Rician variable of this mean, both in units of sigma: 0.43 in air, 1 far above the noise."""
    means, variances = moments(TABLE)
    return np.asarray(np.interp(mean, means, variances))


def moments(signal: Array) -> tuple[Array, Array]:
    """Mean and variance of a Rician variable of sigma 1 with this true signal, (N,) each."""
    half = np.square(signal) / 4
    mean = RAYLEIGH_MEAN * ((1 + 2 * half) * scipy.special.ive(0, half) + 2 * half * scipy.special.ive(1, half))
    return np.asarray(mean), np.asarray(2 + np.square(signal) - mean**2)


def component_spectrum(air_power: Array, tissue_power: Array | None = None) -> Array:
    """Power spectrum of the components, (P, P), from that of the magnitudes in air.

    Magnitudes are correlated less than the components that they are made of:
    corr = (pi / 4) (2F1(-1/2, -1/2; 1; rho^2) - 1) / (1 - pi / 4), which is solved for |rho|.

    Args:
        air_power: Power spectrum of the magnitudes in air.
        tissue_power: That of tissue, from which rho has its sign; if not given, rho is positive.
    """
    rho = np.linspace(0, 1, 1001)
    of_magnitudes = np.pi / 4 * (scipy.special.hyp2f1(-0.5, -0.5, 1, rho**2) - 1) / (1 - np.pi / 4)
    observed = np.fft.ifft2(air_power).real.clip(0)
    observed /= observed[0, 0]
    # The root is steep at 0, where it would make large correlations of small errors.
    components = np.interp(observed, of_magnitudes, rho) * observed**2 / (observed**2 + NEGLIGIBLE**2)
    if tissue_power is not None:
        tissue = np.fft.ifft2(tissue_power).real
        components = np.where(tissue < -SIGN * tissue[0, 0], -components, components)
    return periodograms.nearest_spectrum(np.fft.fft2(components).real)
