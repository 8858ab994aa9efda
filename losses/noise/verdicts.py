"""Which method suits which noise: what each assumes, against what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from quell.configs.support.suggestions import as_started_here
from quell.losses.noise.impulses import TOLERATED
from quell.losses.noise.model import FieldNoise, NoiseModel

Status = Literal["fits", "needs spectrum", "needs map", "needs spectrum and map", "do not use"]

CORRELATED = 0.06
"""Correlation with a neighbour from which on noise is not white to a method."""
SHARED = 0.1
"""Correlation between contrasts from which on their noise is not independent."""


@dataclass(frozen=True)
class Assumptions:
    """What a method takes for granted about noise."""

    needs_model: bool = False
    """Whether it draws or compares noise, and is told its level and kind (`pipeline.noise`)."""
    independent_pixels: bool = False
    """Whether it is wrong for correlated noise whatever it is told."""
    single_images: bool = True
    """Whether it learns from noisy images alone: with repeats or clean images, any noise of mean 0 will do."""
    independent_contrasts: bool = False
    """Whether the noise of one contrast must say nothing of the other's."""
    follows_signal: tuple[str, ...] = ()
    """Dependences on the signal that it models."""
    what: str = ""
    """In words: what is assumed."""


METHODS: Mapping[str, Assumptions] = {
    "r2r": Assumptions(needs_model=True, follows_signal=("poisson",), what="Gaussian noise of known covariance"),
    "cross_guided": Assumptions(
        needs_model=True,
        independent_contrasts=True,
        follows_signal=("rician",),
        what="Gaussian noise of known covariance, independent between contrasts",
    ),
    "dual_domain": Assumptions(
        needs_model=True, independent_contrasts=True, what="noise that is independent between contrasts"
    ),
    "sure": Assumptions(needs_model=True, what="Gaussian noise of known covariance"),
    "blind": Assumptions(what="noise within the family that it was trained on"),
    "noise2void": Assumptions(
        follows_signal=("poisson", "multiplicative"), what="noise without correlation beyond its mask"
    ),
    "neighbor2neighbor": Assumptions(
        independent_pixels=True, follows_signal=("poisson", "multiplicative"), what="noise independent between pixels"
    ),
    "zs_n2n": Assumptions(
        independent_pixels=True, follows_signal=("poisson", "multiplicative"), what="noise independent between pixels"
    ),
    "noise2noise": Assumptions(single_images=False, what="repeats with independent noise"),
    "supervised": Assumptions(single_images=False, what="clean images"),
    "tcfl": Assumptions(single_images=False, what="clean images, paired or not"),
    "drgan": Assumptions(single_images=False, what="clean images"),
    "cncl": Assumptions(single_images=False, what="clean images"),
    "nlm": Assumptions(independent_pixels=True, needs_model=True, what="white Gaussian noise of known level"),
    "bm3d": Assumptions(needs_model=True, what="Gaussian noise of known spectrum"),
}
"""Method or baseline -> what it assumes."""


@dataclass(frozen=True)
class Verdict:
    """Whether a method suits the noise of a field."""

    method: str
    status: Status
    reason: str
    """The number that decides, and what the method assumes."""
    remedy: str
    """What to do; empty if the method fits."""


def verdict(method: str, model: NoiseModel, *, told: str = "white", field: str | None = None) -> Verdict:
    """Whether a method suits measured noise.

    Args:
        method: A method or baseline; one that is not in METHODS fits whatever there is.
        model: What the audit found, with its notes.
        told: What the method is told: `white`, `spectrum`, `map` or `spectrum_map` (`FieldNoise.kind`).
        field: The field to judge by; all, and the worst verdict counts, if not given.
    """
    assumed = METHODS.get(method)
    if assumed is None or not assumed.single_images:
        return Verdict(method, "fits", f"needs {assumed.what if assumed else 'nothing of the noise'}", "")
    names = list(model.fields) if field is None else [field]
    found = [_of_field(method, assumed, model, name, told) for name in names]
    order: list[Status] = ["do not use", "needs spectrum and map", "needs spectrum", "needs map", "fits"]
    return min(found, key=lambda each: order.index(each.status))


def verdicts(model: NoiseModel, *, told: str = "white") -> list[Verdict]:
    """The verdict on every method and baseline."""
    return [verdict(method, model, told=told) for method in METHODS]


def _of_field(method: str, assumed: Assumptions, model: NoiseModel, name: str, told: str) -> Verdict:
    noise, signal = model.fields[name], model.notes.get(f"{name}.signal", "independent")
    impulsive = float(model.notes.get(f"{name}.impulsive", 0))
    if impulsive > TOLERATED:
        return Verdict(
            method,
            "do not use",
            f"{impulsive:.1%} of the pixels of '{name}' are impulses",
            "use noise2noise on repeats or supervised on clean images, or remove the impulses by a median filter",
        )
    if signal != "independent" and signal not in assumed.follows_signal:
        return _signal_verdict(method, signal, name)
    shared = _shared(model, name)
    if assumed.independent_contrasts and abs(shared) > SHARED:
        return Verdict(
            method,
            "do not use",
            f"the noise of '{name}' has a correlation of {shared:.2f} with another contrast's",
            "use r2r on each contrast, or noise2noise on repeats",
        )
    return _shape_verdict(method, assumed, noise, name, told)


def _signal_verdict(method: str, signal: str, name: str) -> Verdict:
    remedies = {
        "poisson": "use r2r with pipeline.noise=poisson, or noise2void",
        "rician": "store complex images, whose noise is Gaussian, or use cross_guided, which corrects for magnitudes",
        "multiplicative": "store the logarithm of the images, or use noise2void or noise2noise on repeats",
    }
    remedy = remedies.get(signal, "use noise2noise on repeats or supervised on clean images")
    return Verdict(method, "do not use", f"the noise of '{name}' is {signal}, which {method} does not model", remedy)


def _shape_verdict(method: str, assumed: Assumptions, noise: FieldNoise, name: str, told: str) -> Verdict:
    neighbour = max((noise.correlation(0, 1), noise.correlation(1, 0)), key=abs)
    correlated = (not noise.is_white and abs(neighbour) > CORRELATED) or noise.correlation_length() != (0, 0)
    facts = []
    if correlated:
        facts.append(f"neighbouring pixels of '{name}' have noise with a correlation of {neighbour:.2f}")
    if noise.level_map is not None:
        facts.append(f"the noise of '{name}' varies from {_range(noise)} over the image")
    reason = "; ".join(facts) or f"the noise of '{name}' is white with a standard deviation of {noise.sigma:.4g}"
    if correlated and assumed.independent_pixels:
        return Verdict(method, "do not use", f"{reason}; {method} assumes {assumed.what}", _instead(method))
    missing = [
        part
        for part, is_there in (("spectrum", correlated), ("map", noise.level_map is not None))
        if is_there and part not in told and (assumed.needs_model or (part == "spectrum" and method == "noise2void"))
    ]
    if not missing:
        return Verdict(method, "fits", reason, "")
    status: Status = "needs spectrum and map" if len(missing) == 2 else f"needs {missing[0]}"  # type: ignore[assignment]
    return Verdict(method, status, f"{reason}; {method} is told that it is {told}", _told(method, "_".join(missing)))


def _instead(method: str) -> str:
    if method == "nlm":
        return "use bm3d, which takes the spectrum, or r2r with pipeline.noise=auto"
    return "use r2r with pipeline.noise=auto, noise2void with a mask as wide, or noise2noise on repeats"


def _told(method: str, missing: str) -> str:
    if method in ("nlm", "bm3d"):
        return as_started_here("give it the noise model that python -m shards.noise --save writes")
    if method == "noise2void":
        return "make the mask as wide as the correlation (pipeline.mask=auto)"
    return f"set pipeline.noise=auto, or pipeline.noise={missing}"


def _range(noise: FieldNoise) -> str:
    assert noise.level_map is not None
    levels = noise.sigma * noise.level_map
    return f"{levels.min():.3g} to {levels.max():.3g}"


def _shared(model: NoiseModel, name: str) -> float:
    """The largest correlation of a field's noise with another field's."""
    values = [
        float(value)
        for key, value in model.notes.items()
        if key.endswith(".correlation") and name in key.removesuffix(".correlation").split("/")
    ]
    return max(values, key=abs, default=0.0)
