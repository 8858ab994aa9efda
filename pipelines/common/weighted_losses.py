"""Methods with one network and a weighted set of losses: the base of supervised, Noise2Noise and Spectroformer."""

import inspect
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from pydantic import BeforeValidator, TypeAdapter, ValidationError, WithJsonSchema
from torch import Tensor, nn
from typing_extensions import TypeVar

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.fields import FieldSpec
from quell.configs.schema import Network, PipelineConfig, Rate
from quell.losses.common.weighting import Strategy, Weighting
from quell.pipelines.base import Batch, Output, Pipeline, detached
from quell.pipelines.common.self_ensemble import self_ensembled

LossSpec = dict[str, Any]
"""A loss's `weight` and its constructor's arguments."""

GIVEN = ("channels",)
"""Constructor arguments of losses that come from the data."""


def _checked(value: object) -> dict[str, LossSpec]:
    """Check `{l1: 1.0, msssim: {weight: 0.2, scales: 3}}`, or a list of `{name: ...}`, and fill in the defaults."""
    problems: list[str] = []
    specs: dict[str, LossSpec] = {}
    for name, spec in _pairs(value):
        if spec is None:
            continue
        if name in specs:
            problems.append(f"{name} is given twice")
            continue
        arguments = dict(spec) if isinstance(spec, dict) else {"weight": spec}
        try:
            weight = TypeAdapter(Rate).validate_python(arguments.pop("weight", 1.0))
        except ValidationError:
            problems.append(f"{name}: weight must be > 0 (set the loss to null to leave it out)")
            continue
        try:
            specs[name] = {"weight": weight} | registry.complete("losses", {**arguments, "name": name}, given=GIVEN)
        except registry.SettingsError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            continue
        if not _compares(name):
            problems.append(f"{name}: does not compare a restored image with a target; it is for other methods")
    if not specs and not problems:
        problems.append("set at least one loss, e.g. {l1: 1.0}")
    if problems:
        raise registry.SettingsError(problems)
    return {name: {key: value for key, value in spec.items() if key != "name"} for name, spec in specs.items()}


Losses = Annotated[dict[str, LossSpec], BeforeValidator(_checked), WithJsonSchema({"catalogue": "weighted_losses"})]
"""Losses by name, each with its weight and its constructor's arguments."""


@runtime_checkable
class ReportingLoss(Protocol):
    """A loss that reports more than its value."""

    def measure(self, restored: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and further scalars to log, by name."""


class WeightedConfig(PipelineConfig):
    """Settings of a method with one network and several losses."""

    network: Network = {"name": "dncnn"}
    """Network from the noisy image to the restored one. With its argument `residual` it predicts the noise, which is
    subtracted."""
    losses: Losses = {"l1": {"weight": 1.0}}
    """Losses with weights: `{l1: 1.0, msssim: {weight: 0.2, scales: 3}}`. Learned weights start from these."""
    weighting: Strategy = "fixed"
    """How the losses are combined: fixed weights; uncertainty (learned log-variances); softmax (learned; ends with all
    weight on one loss); random_softmax (drawn once and kept)."""
    self_ensemble: bool = False
    """Restore an image in each of its eight orientations and average them: slightly better, in eight times the time."""


WeightedT = TypeVar("WeightedT", bound=WeightedConfig, default=WeightedConfig)


class WeightedPipeline(Pipeline[WeightedT]):
    """A method whose only phase trains one network and, if they are learned, the weights of its losses."""

    Config = WeightedConfig

    def __init__(self, config: WeightedT, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = {name: spec.channels for name, spec in fields.items()}
        if any(spec.is_complex for spec in fields.values()):
            raise ConfigError(
                f"{config.name} trains real networks: set data.representation to ri (two channels) or magnitude"
            )
        if len(set(channels.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in channels.items())
            raise ConfigError(f"{config.name} needs fields with equal channels, got {counts}")
        count = channels["noisy"]
        self.network: nn.Module = registry.build("models", config.network, in_channels=count, out_channels=count)
        self.criteria = nn.ModuleDict({name: _build(name, spec, count) for name, spec in config.losses.items()})
        self.weighting = Weighting(config.weighting, {name: spec["weight"] for name, spec in config.losses.items()})
        self.phases = {"restorer": ("network", "weighting")}
        self.outputs = {"restored": Output("noisy", "clean")}
        self._reported: set[str] = set()

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The network's output, in the units of the noisy image."""
        if self.config.self_ensemble:
            return {"restored": self_ensembled(lambda noisy: self.predicted(noisy, batch), batch["noisy"])}
        return {"restored": self.predicted(batch["noisy"], batch)}

    def predicted(self, noisy: Tensor, batch: Batch) -> Tensor:
        """What the network makes of noisy images (N, C, H, W), in the units of the batch."""
        restored: Tensor = self.network(noisy)
        return restored

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Drop the fixed loss weights that old checkpoints hold."""
        fixed = self.config.weighting == "fixed"
        return {name: value for name, value in tensors.items() if not (fixed and name == "weighting.weights")}

    def compare(self, restored: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss; and, to log, every loss, what else it reports, and every weight."""
        terms: dict[str, Tensor] = {}
        reports: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            if isinstance(criterion, ReportingLoss):
                terms[name], report = criterion.measure(restored, target)
                reports |= {f"{name}_{key}": value for key, value in report.items()}
            else:
                terms[name] = criterion(restored, target)
        with torch.autocast(restored.device.type, enabled=False):
            total, weights = self.weighting(terms)
        return total, detached({**terms, **reports, **weights})

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """Report, once each, image channels that MS-SSIM cannot learn from and weights that ended on one loss."""
        messages: dict[str, str] = {}
        if one_hot := self.weighting.one_hot_warning(means):
            messages["one_hot"] = one_hot
        if (dead := means.get("msssim_dead", 0.0)) > 0:
            messages["dead"] = (
                f"msssim: {100 * dead:.2g} % of the image channels had a contrast term of 0 or less, for which "
                "MS-SSIM has no gradient; only the other losses train them (msssim_dead in the log)"
            )
        new = [message for name, message in messages.items() if name not in self._reported]
        self._reported |= messages.keys()
        return new


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """(name, specification) pairs of a mapping, or of a list of names and `{name: ...}` mappings."""
    if isinstance(value, dict):
        return [(str(name), spec) for name, spec in value.items()]
    entries = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(entry, str) or (isinstance(entry, dict) and "name" in entry) for entry in entries):
        raise registry.SettingsError([f"expected losses by name, e.g. {{l1: 1.0}}, or a list of them; got {value!r}"])
    named = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    return [(entry["name"], {key: value for key, value in entry.items() if key != "name"}) for entry in named]


def _compares(name: str) -> bool:
    """Whether a loss is called with two images, restored and target."""
    try:
        inspect.signature(registry.find("losses", name).forward).bind(None, None, None)  # type: ignore[attr-defined]
    except TypeError:
        return False
    return True


def _build(name: str, spec: LossSpec, channels: int) -> nn.Module:
    """The loss of one entry of `losses`."""
    arguments = {key: value for key, value in spec.items() if key != "weight"}
    return registry.build("losses", {**arguments, "name": name}, channels=channels)
