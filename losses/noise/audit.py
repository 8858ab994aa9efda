"""The noise of a whole data set: an estimate per field, what contrasts share, and both as one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from quell.losses.noise import periodograms
from quell.losses.noise.cross_correlation import noise_correlation
from quell.losses.noise.estimate import Estimate, estimate_noise
from quell.losses.noise.flat_patches import SHARE
from quell.losses.noise.material import Images
from quell.losses.noise.model import NoiseModel

DIFFERENT = 2.5
"""Level of the residual, relative to smooth regions', above which a clean image is not the image without noise."""


@dataclass(frozen=True, eq=False)
class FieldImages:
    """Images of one field, in stored units, with what is known about each."""

    images: Images
    """Noisy images, (H, W) or (H, W, C), real or complex."""
    clean: Images | None = None
    """The image of each without noise."""
    second: Images | None = None
    """A repeat of each."""


@dataclass(frozen=True, eq=False)
class NoiseAudit:
    """What an audit found."""

    estimates: Mapping[str, Estimate]
    """Field -> its noise."""
    between: Mapping[tuple[str, str], float]
    """Two fields -> correlation between their noise, where images are of the same size."""
    model: NoiseModel
    """The same for methods; its notes state what `verdicts` needs beyond the fields' noise."""


def audit_noise(fields: Mapping[str, FieldImages]) -> NoiseAudit:
    """Estimate the noise of every field, and what noise fields share.

    Args:
        fields: Name of a noisy field -> its images; those of the same number belong to the same sample.

    Raises:
        DataError: Noise cannot be estimated in a field.
    """
    estimates = {name: _estimate(known) for name, known in fields.items()}
    between = {
        (first, second): correlation
        for first, second in combinations(fields, 2)
        if (correlation := _between(fields[first], fields[second])) is not None
    }
    return NoiseAudit(estimates, between, _model(estimates, between))


def _estimate(known: FieldImages) -> Estimate:
    """From the best source there is; clean images only if they differ from the noisy ones by what may be noise."""
    best = estimate_noise(known.images, clean=known.clean, second=known.second)
    if best.source != "clean images":
        return best
    alone = estimate_noise(known.images)
    if best.noise.sigma <= DIFFERENT * max(alone.noise.sigma, alone.image_levels[1]) or alone.signal != "independent":
        return best
    note = (
        f"the clean images differ by {best.noise.sigma:.4g}, where smooth regions have noise of "
        f"{alone.noise.sigma:.4g}: by more than noise (colour, position, what was removed), so they were not used"
    )
    return replace(alone, notes=(note, *alone.notes))


def _model(estimates: Mapping[str, Estimate], between: Mapping[tuple[str, str], float]) -> NoiseModel:
    notes: dict[str, str] = {}
    for name, estimate in estimates.items():
        notes[f"{name}.signal"] = estimate.signal
        notes[f"{name}.impulsive"] = f"{estimate.impulsive:.4f}"
        notes[f"{name}.sigma_error"] = f"{estimate.sigma_error:.3g}"
        notes[f"{name}.correlation_error"] = f"{estimate.correlation_error:.3g}"
        if estimate.notes:
            notes[f"{name}.unknown"] = "; ".join(estimate.notes)
    notes |= {f"{first}/{second}.correlation": f"{value:.3f}" for (first, second), value in between.items()}
    sources = dict.fromkeys(estimate.source for estimate in estimates.values())
    return NoiseModel({name: estimate.noise for name, estimate in estimates.items()}, ", ".join(sources), notes)


def _between(first: FieldImages, second: FieldImages) -> float | None:
    """Correlation between the noise of two fields; None where they cannot be laid on each other."""
    shapes = [[image.shape for image in known.images] for known in (first, second)]
    if shapes[0] != shapes[1] or any(len(shape) != 2 for shape in shapes[0]):
        return None
    planes, is_residual = [], True
    for known in (first, second):
        # Half the difference of repeats would do as well, but its noise is that of both.
        is_residual = is_residual and known.clean is not None
        clean: Sequence[NDArray[np.generic]] | None = known.clean
        images = [np.asarray(image) for image in known.images]
        planes.append(images if clean is None else [a - np.asarray(b) for a, b in zip(images, clean, strict=True)])
    if not is_residual:
        planes = [[np.asarray(image) for image in known.images] for known in (first, second)]
    sizes = periodograms.patch_sizes([(shape[0], shape[1]) for shape in shapes[0]])
    real = [[np.asarray(plane.real, dtype=np.float64) for plane in each] for each in planes]
    return noise_correlation(real[0], real[1], sizes[-1], share=1.0 if is_residual else SHARE)
