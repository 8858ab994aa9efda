"""Methods with one network and a weighted set of losses: what supervised, Noise2Noise and Spectroformer share."""

import inspect
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from pydantic import BeforeValidator, TypeAdapter, ValidationError
from torch import Tensor, nn
from typing_extensions import TypeVar

from configs import registry
from configs.errors import ConfigError
from configs.fields import FieldSpec
from configs.schema import Network, PipelineConfig, Rate
from losses.common.weighting import Strategy, Weighting
from pipelines.base import Batch, Output, Pipeline, detached

GIVEN = ("channels",)
"""Arguments of losses that come from the data."""


def _checked(value: Any) -> dict[str, dict[str, Any]]:
    """`{l1: 1.0, msssim: {weight: 0.2, scales: 3}}`, or a list of `{name: ..., weight: ...}`, completed and checked."""
    problems: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for name, spec in _pairs(value):
        if spec is None:
            continue
        if name in found:
            problems.append(f"{name} is given twice")
            continue
        arguments = dict(spec) if isinstance(spec, dict) else {"weight": spec}
        try:
            weight = TypeAdapter(Rate).validate_python(arguments.pop("weight", 1.0))
        except ValidationError:
            problems.append(f"{name}: weight must be a positive number (null in the place of the loss leaves it out)")
            continue
        try:
            found[name] = {"weight": weight} | registry.complete("losses", {**arguments, "name": name}, given=GIVEN)
        except registry.SettingsError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            continue
        if not _compares(name):
            problems.append(f"{name}: does not compare a restored image with a target, it belongs to other methods")
    if not found and not problems:
        problems.append("give at least one loss, e.g. {l1: 1.0}")
    if problems:
        raise registry.SettingsError(problems)
    return {name: {key: value for key, value in spec.items() if key != "name"} for name, spec in found.items()}


Losses = Annotated[dict[str, dict[str, Any]], BeforeValidator(_checked)]
"""Losses by name, each with its weight and its constructor's arguments."""


@runtime_checkable
class Measuring(Protocol):
    """A loss that has something to report besides its value."""

    def measure(self, restored: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and scalars for the log by name."""


class WeightedConfig(PipelineConfig):
    """Settings of a method with one network and several losses."""

    network: Network = {"name": "dncnn"}
    """Network from the noisy image to the restored one; its `residual` argument says whether it predicts the noise."""
    losses: Losses = {"l1": {"weight": 1.0}}
    """Losses with weights: `{l1: 1.0, msssim: {weight: 0.2, scales: 3}}`. A weight is the fixed one, or where learning
    starts."""
    weighting: Strategy = "fixed"
    """How losses become one: fixed weights; uncertainty (learned log-variances); softmax (learned; goes one-hot);
    random_softmax (one random draw, kept)."""


WeightedT = TypeVar("WeightedT", bound=WeightedConfig, default=WeightedConfig)


class WeightedPipeline(Pipeline[WeightedT]):
    """One phase that trains one network, and with it the weights of its losses."""

    Config = WeightedConfig

    def __init__(self, config: WeightedT, fields: dict[str, FieldSpec]) -> None:
        super().__init__(config, fields)
        channels = {name: spec.channels for name, spec in fields.items()}
        if any(spec.is_complex for spec in fields.values()):
            raise ConfigError(
                f"{config.name} trains real networks: set data.representation to ri (two channels) or magnitude"
            )
        if len(set(channels.values())) > 1:
            said = ", ".join(f"{name} {count}" for name, count in channels.items())
            raise ConfigError(f"{config.name} compares images of equal channels, but these have: {said}")
        count = channels["noisy"]
        self.network: nn.Module = registry.build("models", config.network, in_channels=count, out_channels=count)
        self.criteria = nn.ModuleDict({name: _build(name, spec, count) for name, spec in config.losses.items()})
        self.weighting = Weighting(config.weighting, {name: spec["weight"] for name, spec in config.losses.items()})
        self.phases = {"restorer": ("network", "weighting")}
        self.outputs = {"restored": Output("noisy", "clean")}
        self.said: set[str] = set()

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """The network's image, (N, C, H, W) in the units of the noisy one."""
        return {"restored": self.network(batch["noisy"])}

    def migrate_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fixed weights were once kept with the network."""
        fixed = self.config.weighting == "fixed"
        return {name: value for name, value in tensors.items() if not (fixed and name == "weighting.weights")}

    def compare(self, restored: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss, and for the log every loss, what it reports besides, and every weight."""
        terms: dict[str, Tensor] = {}
        parts: dict[str, Tensor] = {}
        for name, criterion in self.criteria.items():
            if isinstance(criterion, Measuring):
                terms[name], reported = criterion.measure(restored, target)
                parts |= {f"{name}_{key}": value for key, value in reported.items()}
            else:
                terms[name] = criterion(restored, target)
        with torch.autocast(restored.device.type, enabled=False):
            total, weights = self.weighting(terms)
        return total, detached({**terms, **parts, **weights})

    def on_epoch_end(self, means: dict[str, float]) -> list[str]:
        """What became of the losses, said once each: channels MS-SSIM cannot learn from, weights gone one-hot."""
        found: dict[str, str] = {}
        if one_hot := self.weighting.one_hot_warning(means):
            found["one_hot"] = one_hot
        if (dead := means.get("msssim_dead", 0.0)) > 0:
            found["dead"] = (
                f"msssim: {100 * dead:.2g} % of the image channels had a contrast term below zero, and with it no "
                "value and no gradient; they learn from the other losses only (msssim_dead in the log)"
            )
        new = [message for name, message in found.items() if name not in self.said]
        self.said |= set(found)
        return new


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """Names and specifications of a mapping, or of a list of names and `{name: ...}` mappings."""
    if isinstance(value, dict):
        return [(str(name), spec) for name, spec in value.items()]
    entries = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(entry, str) or (isinstance(entry, dict) and "name" in entry) for entry in entries):
        raise registry.SettingsError([f"expected losses by name, e.g. {{l1: 1.0}}, or a list of them; got {value!r}"])
    named = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    return [(entry["name"], {key: value for key, value in entry.items() if key != "name"}) for entry in named]


def _compares(name: str) -> bool:
    """Whether a loss can be called with two images."""
    try:
        inspect.signature(registry.find("losses", name).forward).bind(None, None, None)  # type: ignore[attr-defined]
    except TypeError:
        return False
    return True


def _build(name: str, spec: dict[str, Any], channels: int) -> nn.Module:
    """The loss of one entry of `losses`, for images of so many channels."""
    arguments = {key: value for key, value in spec.items() if key != "weight"}
    return registry.build("losses", {**arguments, "name": name}, channels=channels)
