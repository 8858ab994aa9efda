"""Every shipped configuration, and those that differ from one in a single choice, found from the types of the settings.

A choice is a setting with named or boolean values. Every value that no shipped file of the method has becomes a variant
of the method's first file. So does every value of an argument of a network, once for each network, and every network
that no file has. A new file, method, network or choice is found without being listed here.
"""

import copy
import inspect
import itertools
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quell.configs import registry
from quell.configs.schema import RunConfig
from quell.launch.proof.small_configs import CONFIGS, on_first_kind, only_training, small_settings

COMPANIONS: dict[str, dict[str, Any]] = {
    "blind sees=level": {"network": {"residual": False}},
    "r2r noise=poisson": {"gain": 0.01, "sigma": None},
    "r2r noise=gamma": {"looks": 4.0, "sigma": None},
    "tcfl gan=wgan_gp": {"weights": {"critic_fake": None}},
    "tcfl separation=linear": {"weights": {"separation": 1.0}},
    "unet checkpointing=True": {"norm": "group"},
}
"""What else a choice needs, in the same section."""

CROPS = {"patch_discriminator variant=v1": 48}
"""Crops of choices that need more than others, in pixels; the images of `IMAGE_SHAPE` are large enough."""

IMAGE_SHAPE = (50, 52)
"""Height and width of the images to rehearse with."""

SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"batch_size": 2},
    "loop": {"accumulate": 1, "ema_decay": 0.9, "epochs": None, "max_steps": 50},
    "tracking": {"log_every": 100},
}
"""Of every rehearsal."""

TRAINS_ANY_NETWORK = "cross_guided"
"""The shipped file that also trains the networks which no shipped file has."""


def all_settings() -> dict[str, dict[str, Any]]:
    """Settings of everything to rehearse, by name: "tcfl", "tcfl gan=hinge", "unet norm=group"."""
    shipped = {name: _small(path) for name, path in CONFIGS.items()}
    first: dict[str, str] = {}
    for name, settings in shipped.items():
        first.setdefault(settings["pipeline"]["name"], name)
    found = dict(shipped)
    for method, name in first.items():
        taken = [settings["pipeline"] for settings in shipped.values() if settings["pipeline"]["name"] == method]
        config_class: Any = registry.find("pipelines", method)
        for key, annotation in typing.get_type_hints(config_class.Config, include_extras=True).items():
            for value in choices(annotation):
                if all(pipeline[key] != value or type(pipeline[key]) is not type(value) for pipeline in taken):
                    _add(found, f"{method} {key}={value}", shipped[name], ["pipeline"], {key: value})
    _add_networks(found, shipped)
    return found


def choices(annotation: Any) -> Iterator[Any]:
    """The named and boolean values that a type allows, alone or among others."""
    if annotation is bool:
        yield from (False, True)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield from typing.get_args(annotation)
    elif origin in (typing.Union, types.UnionType):
        yield from itertools.chain.from_iterable(choices(option) for option in typing.get_args(annotation))
    elif origin is typing.Annotated:
        yield from choices(typing.get_args(annotation)[0])


def configured(settings: dict[str, Any], roots: dict[str, Path], name: str, precision: str) -> RunConfig:
    """The configuration of these settings in one precision.

    Raises:
        ConfigError: The settings do not go together.
    """
    settings = copy.deepcopy(settings)
    settings["loop"]["precision"] = precision
    return on_first_kind(settings, roots, name)


def _small(path: Path) -> dict[str, Any]:
    settings = small_settings(path, Path())
    for section, values in SETTINGS.items():
        settings[section] |= values
    only_training(settings)
    return settings


def _add(found: dict[str, Any], name: str, base: dict[str, Any], where: list[str], change: dict[str, Any]) -> None:
    """Add a copy of the settings with a change, and what it needs, to the mapping at `where`."""
    settings = copy.deepcopy(base)
    target = settings
    for key in where:
        target = target[key]
    target |= change
    for key, value in COMPANIONS.get(name, {}).items():
        target[key] = target[key] | value if isinstance(value, dict) else value
    settings["data"]["crop"] = CROPS.get(name, settings["data"]["crop"])
    found[name] = settings


def _add_networks(found: dict[str, Any], shipped: dict[str, dict[str, Any]]) -> None:
    """Every choice of every network that no shipped file has, where the network is first used; and unused networks."""
    models = registry.names("models")
    used = [
        (name, key, network)
        for name, settings in shipped.items()
        for key, network in settings["pipeline"].items()
        if isinstance(network, dict) and network.get("name") in models
    ]
    for model in models:
        arguments = dict(inspect.signature(registry.find("models", model)).parameters)
        uses = [use for use in used if use[2]["name"] == model]
        if not uses and {"in_channels", "out_channels"} <= arguments.keys() and _has_defaults(arguments):
            network = registry.complete("models", model, given=("in_channels", "out_channels"))
            found[model] = copy.deepcopy(shipped[TRAINS_ANY_NETWORK])
            found[model]["pipeline"]["network"] = network
            uses = [(model, "network", network)]
        if not uses:  # part of a method of its own, and found with it
            continue
        name, key, _ = uses[0]
        hints = typing.get_type_hints(registry.find("models", model).__init__, include_extras=True)  # type: ignore[misc]
        for argument, annotation in hints.items():
            for value in choices(annotation):
                if all(network.get(argument) != value for _, _, network in uses):
                    _add(found, f"{model} {argument}={value}", found[name], ["pipeline", key], {argument: value})


def _has_defaults(arguments: dict[str, inspect.Parameter]) -> bool:
    """Whether a network can be built from its channels alone."""
    others = [parameter for name, parameter in arguments.items() if name not in ("in_channels", "out_channels")]
    return all(parameter.default is not parameter.empty for parameter in others)
