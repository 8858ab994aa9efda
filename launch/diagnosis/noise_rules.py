"""Checks of noise: whether the method suits what the training images have, and what the restored images kept of it."""

from dataclasses import dataclass

from quell.launch.evaluation import blind_checks
from quell.losses.noise.model import FieldNoise, NoiseModel
from quell.losses.noise.verdicts import CORRELATED, METHODS, Verdict, verdict
from quell.pipelines.common.noise_calibration import DIFFERS_BY, GENERAL
from quell.pipelines.reporting.assumed_noise import AssumedNoise
from quell.pipelines.reporting.checks import Check, CheckValue, check
from quell.pipelines.reporting.documents import MEASURED
from quell.pipelines.reporting.facts import RunFacts

GROUP = "Noise"

UNKNOWN = (
    "the noise of the training images could not be estimated: single images need 64 px a side, and must not be mostly "
    "constant (masked or padded)"
)


def noise_checks(facts: RunFacts) -> list[Check]:
    """The training images' noise against what the method assumes, and the residual checks of the last evaluation."""
    if facts.noise is None:
        return [_check("correlated noise", None, _white(), None, unknown=UNKNOWN), *residual_checks(facts)]
    checks: list[Check] = []
    for name in facts.noise.fields:
        judged = _Field(facts, facts.noise, name)
        checks += [judged.correlation(), judged.variation(), judged.dependence(), *judged.other(), *judged.level()]
    return [*checks, *residual_checks(facts)]


def residual_checks(facts: RunFacts) -> list[Check]:
    """What the last evaluation found when it compared what was removed with the noise of the validation images."""
    last = facts.eval_events[-1] if facts.eval_events else {}
    metrics = {name: value for name, value in last.items() if isinstance(value, float)}
    return [
        _check(finding.name, finding.value, finding.bound, finding.ok, problem=finding.message, ok=finding.message)
        for finding in blind_checks.findings(metrics)
    ]


@dataclass(frozen=True)
class _Field:
    """One field of a run: each property of its noise is judged by itself, as the audit judges all of them at once."""

    facts: RunFacts
    model: NoiseModel
    name: str

    def correlation(self) -> Check:
        """Whether neighbouring pixels share noise that the method takes for independent."""
        strongest = _strongest(self.noise)
        judged = self._verdict(FieldNoise(self.noise.sigma, self.noise.spectrum))
        what = f"a correlation of {strongest:.2f} with the next pixel"
        return self._checked("correlated noise", strongest, _white(), judged, what)

    def variation(self) -> Check:
        """Whether the noise is stronger in some parts of the image than in others, unknown to the method."""
        judged = self._verdict(FieldNoise(self.noise.sigma, level_map=self.noise.level_map))
        value = "no"
        if self.noise.level_map is not None:
            levels = self.noise.sigma * self.noise.level_map
            value = f"{levels.min():.3g} to {levels.max():.3g}"
        what = "the same level everywhere" if value == "no" else f"levels from {value} over the image"
        threshold = "no, or known to the method"
        return self._checked("noise that varies over the image", value, threshold, judged, what)

    def dependence(self) -> Check:
        """Whether the noise grows with the signal in a way that the method does not model."""
        signal, assumed = self.signal, self.assumed
        judged = self._verdict(FieldNoise(self.noise.sigma), {f"{self.name}.signal": signal})
        if assumed is not None and assumed.signal and signal != "independent":
            judged = verdict("sure", NoiseModel({self.name: self.noise}, notes={f"{self.name}.signal": signal}))
            if assumed.signal == signal:
                judged = Verdict(self.method, "fits", "", "")
        what = "a strength that does not depend on the signal" if signal == "independent" else f"{signal} statistics"
        threshold = "independent, or known to the method"
        return self._checked("noise that depends on the signal", signal, threshold, judged, what)

    def other(self) -> list[Check]:
        """Impulses, and noise that contrasts share, where the method cannot do with them."""
        own = {key: value for key, value in self.model.notes.items() if not key.endswith(".signal")}
        judged = self._verdict(FieldNoise(self.noise.sigma), own)
        if judged.status == "fits":
            return []
        is_impulsive = "impulses" in judged.reason
        title = "impulses" if is_impulsive else "noise that contrasts share"
        advice = f"{judged.reason}: {judged.remedy}"
        return [_check(self._title(title), "yes", "no", False, problem=advice)]

    def level(self) -> list[Check]:
        """Whether the standard deviation that the method was told is that of the images."""
        told = self.assumed.sigma if self.assumed is not None else 0.0
        if not told or not self.noise.sigma or self.signal != "independent":
            return []
        return [
            _check(
                self._title("noise level"),
                told,
                f"{self.noise.sigma / DIFFERS_BY:.3g} to {self.noise.sigma * DIFFERS_BY:.3g}",
                max(told / self.noise.sigma, self.noise.sigma / told) <= DIFFERS_BY,
                problem=f"{self.method} was told a standard deviation of {told:.3g}, but the training images' noise "
                f"has {self.noise.sigma:.3g}: set pipeline.sigma=estimate and pipeline.noise=auto, or check the units",
                ok="the method knows the standard deviation of the noise",
            )
        ]

    @property
    def noise(self) -> FieldNoise:
        return self.model.fields[self.name]

    @property
    def signal(self) -> str:
        return self.model.notes.get(f"{self.name}.signal", "independent")

    @property
    def assumed(self) -> AssumedNoise | None:
        return self.facts.assumed_noise.get(self.name)

    @property
    def method(self) -> str:
        return str(self.facts.config.pipeline.name)

    def _verdict(self, part: FieldNoise, notes: dict[str, str] | None = None) -> Verdict:
        """The verdict on one property of the noise."""
        told = "white" if self.assumed is None else self.assumed.kind
        needs_model = self.method in METHODS and METHODS[self.method].needs_model
        # a method that is told of the noise by its settings alone needs what all such methods need
        judge = GENERAL if self.assumed is not None and self.method == "blind" and not needs_model else self.method
        return verdict(judge, NoiseModel({self.name: part}, notes=notes or {}), told=told, field=self.name)

    def _checked(self, title: str, value: CheckValue, threshold: str, judged: Verdict, what: str) -> Check:
        measured = (
            f"the noise of '{self.name}' has a standard deviation of {self.noise.sigma:.3g} and {what} (known from "
            f"{self.model.source})"
        )
        cure = judged.remedy
        if self.assumed is not None and self.assumed.cure and judged.status.startswith("needs"):
            cure = self.assumed.cure
        return _check(
            self._title(title),
            value,
            threshold,
            judged.status == "fits",
            problem=f"{measured}, but {self._told()}: {cure}",
            ok=f"{measured}, which suits {self.method}",
        )

    def _told(self) -> str:
        """What the method took the noise for, in words."""
        if self.assumed is None:
            expected = METHODS[self.method].what if self.method in METHODS else "another noise"
            return f"{self.method} assumes {expected}"
        kinds = {"spectrum": "correlated", "map": "varying", "spectrum_map": "correlated and varying"}
        kind = kinds.get(self.assumed.kind, "white and even")
        if self.assumed.signal not in ("", "independent"):
            kind = self.assumed.signal
        level = f" with a standard deviation of {self.assumed.sigma:.3g}" if self.assumed.sigma else ""
        return f"{self.method} was told {kind} noise{level}"

    def _title(self, title: str) -> str:
        return title if len(self.model.fields) == 1 else f"{title}: {self.name}"


def _check(
    name: str,
    value: CheckValue,
    threshold: str,
    is_good: bool | None,
    *,
    problem: str = "",
    ok: str = "",
    unknown: str = "",
) -> Check:
    return check(name, value, threshold, is_good, source=MEASURED, group=GROUP, problem=problem, ok=ok, unknown=unknown)


def _strongest(noise: FieldNoise) -> float:
    """The stronger one of the correlations with the next pixel along a row and along a column."""
    return max((noise.correlation(0, 1), noise.correlation(1, 0)), key=abs)


def _white() -> str:
    return f"|x| <= {CORRELATED}, or known to the method"
