"""Estimate the noise of a field: its level, spectrum and map, from the best that is known about its images."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.losses.noise import flat_patches, impulses, level_model, levels, periodograms, rician, whiteness
from quell.losses.noise.cross_correlation import noise_correlation
from quell.losses.noise.level_model import LevelModel
from quell.losses.noise.material import Images, Material, best_material
from quell.losses.noise.model import FieldNoise, normalised_spectrum
from quell.losses.noise.periodograms import Patches

Array = NDArray[np.float64]

NEGLIGIBLE = {"smooth regions": 0.06, "background": 0.06, "clean images": 0.04, "repeats": 0.04}
"""Correlation between neighbours up to which noise counts as white, by source: structure that is left looks like it."""
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
FOLDS = 5
"""Groups of images (patches, if there are few images) that are left out in turn to see how uncertain an estimate is."""
UNEQUAL = 1.3
"""Ratio of the levels of the noisiest and the least noisy images above which images are said to differ."""
NEARLY_ALL = 0.99
"""Share of the air that is free of structure: ghosts and flow reach into it."""
SCATTERED = 2.5
"""Scatter of measured levels, relative to that of chance, above which an estimate from smooth regions is doubtful."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """The noise of one field, and how well it is known."""

    noise: FieldNoise
    """Level, spectrum and map; per component for complex images, the mean over channels for colour."""
    source: str
    """`repeats`, `clean images`, `background` or `smooth regions`."""
    sigma_error: float
    """Standard error of sigma, in stored units; without the bias of structure that smooth regions may have."""
    correlation_error: float
    """Standard error of the correlation between neighbours."""
    signal: str = "independent"
    """How the noise depends on the signal: `independent`, `poisson`, `rician` or `multiplicative`."""
    impulsive: float = 0.0
    """Share of pixels that are impulses (salt and pepper)."""
    channels: Array = field(default_factory=lambda: np.eye(1))
    """Correlation between the noise of the channels, (C, C); of real and imaginary part for complex images."""
    image_levels: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest standard deviation of an image."""
    power: Array = field(default_factory=lambda: np.ones((1, 1)))
    """Measured power spectrum (P, P), also where it counts as white."""
    samples: Array = field(default_factory=lambda: np.zeros((0, 2)))
    """Mean of the image and standard deviation of the noise in measured patches, (M, 2)."""
    notes: tuple[str, ...] = ()
    """What could not be known, a sentence each."""


def estimate_noise(
    images: Images, *, clean: Images | None = None, second: Images | None = None, background: Images | None = None
) -> Estimate:
    """Estimate the noise of images of one kind, from repeats if there are any, else clean images, air, smooth regions.

    Args:
        images: Noisy images, real (H, W) or (H, W, C), or complex, in stored units; sizes may differ.
        clean: The image of each without noise.
        second: A repeat of each, with noise of the same kind that is independent of the first one's.
        background: Masks (H, W) of what is known to be air.

    Returns:
        The noise and its uncertainty.

    Raises:
        DataError: There are no images, they are too small, constant or not finite.
    """
    if not images:
        raise DataError("noise cannot be estimated without images")
    material = best_material(images, clean, second, background)
    patches = material.patches
    if not len(patches):
        if material.share == 1:
            return Estimate(FieldNoise(0.0), material.source, 0.0, 0.0)
        raise DataError("noise cannot be estimated: all parts of the images are constant, masked or clipped")
    is_magnitude = not np.iscomplexobj(images[0]) and all(float(np.min(image.real)) >= 0 for image in images)
    air = rician.air(patches) if is_magnitude and material.share < 1 else np.zeros(len(patches), bool)
    if air.any():
        return _rician_estimate(material, air)
    spectrum = flat_patches.flat_spectrum(patches, share=material.share)
    if not spectrum.any():
        return Estimate(FieldNoise(0.0), material.source, 0.0, 0.0)
    model, samples = _levels(material, spectrum)
    if _inequality(model) > UNEQUAL and len(model.image_variance) > 1:
        # Otherwise only the least noisy images would tell the spectrum.
        level = np.sqrt(model.variance_of(patches.image))
        spectrum = flat_patches.flat_spectrum(patches, level / np.sqrt(np.mean(level**2)), material.share)
        model, samples = _levels(material, spectrum)
    partial = [flat_patches.flat_spectrum(part, share=material.share, start=spectrum) for part in _folds(patches)]
    noise = _field_noise(spectrum, model, material, samples, _correlation_error(partial))
    return _described(material, noise, spectrum, partial, model, samples)


def _rician_estimate(material: Material, air: NDArray[np.bool_]) -> Estimate:
    """The noise of the components of magnitude images, from the air in them."""
    patches = material.patches.subset(air)
    sigma = rician.sigma_of_air(patches)
    tissue = material.patches.mean > 3 * sigma
    in_tissue = None
    if tissue.sum() > flat_patches.FEWEST:
        in_tissue = periodograms.without_window(flat_patches.flat_spectrum(material.patches.subset(tissue)))
    magnitude = flat_patches.flat_spectrum(patches, share=NEARLY_ALL)
    components = rician.component_spectrum(periodograms.without_window(magnitude), in_tissue)
    noise = _shaped(FieldNoise(sigma), components, NEGLIGIBLE["background"])
    numbers, samples = np.unique(material.patches.image), _samples(material, magnitude)
    model = LevelModel("rician", dict.fromkeys(numbers.tolist(), sigma**2), 0.0, sigma)
    partial = [
        flat_patches.flat_spectrum(part, share=NEARLY_ALL) / rician.RAYLEIGH_VARIANCE for part in _folds(patches)
    ]
    background = Material(material.patches, "background", material.share, material.channels)
    return _described(background, noise, sigma**2 * components / components.mean(), partial, model, samples)


def _described(
    material: Material, noise: FieldNoise, spectrum: Array, partial: list[Array], model: LevelModel, samples: Array
) -> Estimate:
    """The estimate with its errors and what else was found; `partial` are spectra without a fold of the patches."""
    scale = (FOLDS - 1) / np.sqrt(FOLDS)
    sigmas = [float(np.sqrt(each.mean())) for each in partial]
    lowest, highest = np.sqrt(np.quantile(list(model.image_variance.values()), [0.05, 0.95]))
    first = [plane for planes in material.channels for plane in planes]
    impulsive = impulses.impulse_share(first[:24])
    notes = []
    if highest > UNEQUAL * lowest:
        notes.append(f"the level differs from image to image: {lowest:.4g} to {highest:.4g}")
    if material.source == "smooth regions":
        notes.append("structure that no smooth region is free of would count as noise; repeats or clean images decide")
    chance = level_model.CHANCE[material.patches.size]
    if material.source == "smooth regions" and model.scatter > SCATTERED * chance:
        notes.append(
            f"measured levels scatter by {model.scatter / 2:.0%}, where chance explains {chance / 2:.0%}: "
            "there is structure in all patches, or the noise follows something that is not modelled"
        )
    if impulsive > impulses.TOLERATED:
        notes.append(f"{impulsive:.2%} of the pixels are impulses, which no Gaussian model describes")
    return Estimate(
        noise,
        material.source,
        noise.sigma * float(scale * np.std(sigmas) / max(np.mean(sigmas), 1e-300)),
        _correlation_error(partial),
        model.kind if model.kind in ("poisson", "rician", "multiplicative") else "independent",
        impulsive,
        _channel_correlations(material),
        (float(lowest), float(highest)),
        periodograms.without_window(spectrum),
        samples,
        tuple(notes),
    )


def _levels(material: Material, spectrum: Array) -> tuple[LevelModel, Array]:
    """The model of the level, and the measurements (M, 2) that it was fitted to."""
    patches = material.patches
    measured = levels.measure(patches, spectrum, share=levels.SHARE if material.share < 1 else 1)
    variance = measured.variance * spectrum.mean()
    chosen = measured.patch
    model = level_model.fit(
        variance,
        patches.mean[chosen],
        patches.position[chosen],
        patches.image[chosen],
        level_model.CHANCE[patches.size],
    )
    return model, np.stack([patches.mean[chosen], np.sqrt(variance)], -1)


def _samples(material: Material, spectrum: Array) -> Array:
    measured = levels.measure(material.patches, spectrum)
    return np.stack([material.patches.mean[measured.patch], np.sqrt(measured.variance * spectrum.mean())], -1)


def _field_noise(
    spectrum: Array, model: LevelModel, material: Material, samples: Array, correlation_error: float
) -> FieldNoise:
    patches, floor = material.patches, float(np.mean(list(model.image_variance.values())))
    gain = floor * model.coefficient if model.kind == "poisson" else 0.0
    level_map, mapped = None, model.map_variance()
    if gain:
        variance = floor
    elif mapped is not None:
        # No patch is centred on the border of an image, so that a mean over patches would miss it.
        variance, level_map = floor * float(mapped.mean()), np.sqrt(mapped / mapped.mean())
    elif material.share < 1:
        variance = float(np.mean(model.variance_of(patches.image) * model.shape(patches.mean, patches.position)))
        if model.kind == "uniform" and _inequality(model) <= UNEQUAL:
            # All levels are one: the flattest patches of all images know it best.
            variance = min(variance, float(spectrum.mean()))
    else:
        variance = float(np.mean(samples[:, 1] ** 2))
    noise = FieldNoise(float(np.sqrt(variance)), None, level_map, gain)
    power = periodograms.without_window(spectrum)
    shaped = _shaped(noise, power, max(NEGLIGIBLE[material.source], 3 * correlation_error))
    if material.source == "smooth regions" and not shaped.is_white:
        share = whiteness.white_share(power)
        if share:
            return replace(noise, sigma=noise.sigma * float(np.sqrt(share)))
    return shaped


def _shaped(noise: FieldNoise, power: Array, negligible: float) -> FieldNoise:
    """The noise with this spectrum, unless neighbours are not correlated."""
    coloured = FieldNoise(noise.sigma, normalised_spectrum(power), noise.level_map, noise.gain)
    is_white = max(abs(coloured.correlation(*lag)) for lag in NEIGHBOURS) <= negligible
    return noise if is_white else coloured


def _correlation_error(partial: list[Array]) -> float:
    """Standard error of the correlation between neighbours, from spectra without a fold of the patches each."""
    correlations = [FieldNoise(1, normalised_spectrum(each)).correlation(0, 1) for each in partial if each.any()]
    return float((FOLDS - 1) / np.sqrt(FOLDS) * np.std(correlations)) if correlations else 0.0


def _channel_correlations(material: Material) -> Array:
    """Correlation matrix of the channels' noise."""
    count = len(material.channels)
    matrix = np.eye(count)
    for first in range(count):
        for second in range(first):
            matrix[first, second] = matrix[second, first] = noise_correlation(
                material.channels[first], material.channels[second], material.patches.size, share=material.share
            )
    return matrix


def _inequality(model: LevelModel) -> float:
    values = np.sqrt(list(model.image_variance.values()))
    return float(values.max() / max(values.min(), 1e-300))


def _folds(patches: Patches) -> list[Patches]:
    """The patches without a fold of the images each, or of the patches where there are fewer images than folds."""
    images = len(np.unique(patches.image))
    # Neighbouring patches overlap: runs of them are left out together.
    number = patches.image if images >= FOLDS else np.arange(len(patches)) * FOLDS // len(patches)
    return [patches.subset(number % FOLDS != fold) for fold in range(FOLDS)]
