"""A network class of any installed library, as if it were one of ours."""

import copy
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quell.configs import registry
from quell.configs.errors import ConfigError
from quell.configs.sizes import Side, Width
from quell.configs.support.mappings import Settings
from quell.configs.support.suggestions import did_you_mean
from quell.models.blocks.padding import crop_to, pad_to_multiple

IN_CHANNELS = ("in_channels", "in_chans", "in_ch", "in_nc", "inp_channels", "input_nc", "img_channel", "in_dim")
OUT_CHANNELS = ("out_channels", "out_chans", "out_ch", "out_nc", "output_nc", "out_dim")
"""What libraries call the channels of their networks. An argument of this name gets the method's channels."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""The divisors of height and width that are tried, in this order, if none is given."""

PROBE_PX = 64
"""Least side of the images that are tried."""

REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, TypeError, KeyError, AttributeError)
"""How networks refuse an image that does not fit them."""


class LibraryNetwork(nn.Module):
    """A network class of an installed library, with arguments checked against its constructor's signature.

    A YAML may write `network: {target: monai.networks.nets.BasicUNet, spatial_dims: 2}`: every key but the arguments of
    this class is an argument of the target. If the target has an argument for its channels under one of the usual
    names, it gets the method's channels. Images of any size are padded by reflection to what the network divides, and
    its output is cropped.

    The network is tried on one small image when it is built, so that wrong channels or shapes are reported before
    training. Importing a target runs that library's code, as any import does.

    Args:
        in_channels: Channels of the input image.
        out_channels: Channels of the output.
        target: Dotted path of a `torch.nn.Module` class in an installed package.
        arguments: Arguments of its constructor.
        forward_arguments: Further arguments of its `forward`, the same at every call, e.g. `{sigma: 0.05}`.
        pad_to_multiple: What height and width must be divisible by; null finds out by trying.

    Shape:
        Input (N, in_channels, H, W), of any H and W. Output (N, out_channels, H, W).

    Raises:
        ConfigError: The target cannot be imported or built, or does not return an image of the input's size with
            `out_channels`.
    """

    def __init__(
        self,
        in_channels: Width,
        out_channels: Width,
        target: str,
        arguments: dict[str, Any] = {},  # noqa: B006 the registry reads the default from the signature
        forward_arguments: dict[str, Any] = {},  # noqa: B006
        pad_to_multiple: Side | None = None,
    ) -> None:
        super().__init__()
        self.target, self.forward_arguments = target, dict(forward_arguments)
        channels = _channel_arguments(find_target(target), in_channels, out_channels)
        try:
            self.network = find_target(target)(**{**channels, **arguments})
        except Exception as error:
            raise ConfigError(f"{target} could not be built: {type(error).__name__}: {error}") from error
        candidates = MULTIPLES if pad_to_multiple is None else (pad_to_multiple,)
        self.multiple = self._fitting_multiple(candidates, in_channels, out_channels)

    @classmethod
    def complete_settings(cls, spec: Settings) -> Settings:
        """The mapping with the target's arguments collected under `arguments`, checked against its constructor.

        Raises:
            registry.SettingsError: Every unknown or missing argument of the target.
        """
        own = ("name", "target", "arguments", "forward_arguments", "pad_to_multiple")
        arguments = {**spec.get("arguments", {}), **{key: value for key, value in spec.items() if key not in own}}
        try:
            known, required = _arguments_of(find_target(spec["target"]))
        except ConfigError as error:
            raise registry.SettingsError(error.problems) from error
        problems = []
        if known is not None:
            problems += [
                f"unknown argument '{key}' of {spec['target']}; {did_you_mean(key, known)}"
                for key in arguments
                if key not in known
            ]
        problems += [
            f"{spec['target']} needs the argument '{key}'"
            for key in required
            if key not in arguments and key not in IN_CHANNELS + OUT_CHANNELS
        ]
        if problems:
            raise registry.SettingsError(problems)
        return {**{key: spec[key] for key in own if key in spec}, "arguments": arguments}

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Restore images (N, in_channels, H, W)."""
        output = self.network(pad_to_multiple(image_NCHW, self.multiple), **self.forward_arguments)
        return crop_to(output, image_NCHW.shape[-2:])

    @torch.no_grad()
    def _fitting_multiple(self, candidates: tuple[int, ...], in_channels: int, out_channels: int) -> int:
        """The first candidate whose multiples the network accepts and returns in their own size."""
        # Some networks pad by themselves in one of the two modes only. A copy, because training updates buffers.
        modes = [copy.deepcopy(self.network).train(is_training) for is_training in (True, False)]
        refusal = ""
        for multiple in candidates:
            # odd multiples, different for height and width, so that larger powers of two do not fit by chance
            factor = max(3, -(-PROBE_PX // multiple)) | 1
            shape = (2, in_channels, multiple * factor, multiple * (factor + 2))
            refusal = self._refusal(modes[0], shape, out_channels) or self._refusal(modes[1], shape, out_channels)
            if not refusal:
                return multiple
        raise ConfigError(f"{self.target} {refusal}")

    def _refusal(self, network: nn.Module, shape: tuple[int, ...], out_channels: int) -> str:
        """Why the network does not restore an image of this shape; empty if it does."""
        with torch.random.fork_rng(devices=[]):  # whatever the network draws, the run's own numbers stay the same
            try:
                output = network(torch.zeros(shape), **self.forward_arguments)
            except REFUSALS as error:
                return f"cannot restore an image of shape {shape}: {type(error).__name__}: {error}"
        if not isinstance(output, Tensor):
            return f"returns {type(output).__name__}: a network must return one image (N, C, H, W)"
        expected = (shape[0], out_channels, *shape[2:])
        if tuple(output.shape) != expected:
            return f"returned the shape {tuple(output.shape)} for {shape}, expected {expected}: set its channels"
        return ""


def find_target(target: str) -> type[nn.Module]:
    """Import the class that a dotted path names.

    Raises:
        ConfigError: There is no such module or class, a package is missing, or it is no torch module.
    """
    registry.refuse_foreign(target)
    module_name, _, class_name = target.rpartition(".")
    if not module_name:
        raise ConfigError(f"target '{target}': expected a dotted path, e.g. monai.networks.nets.BasicUNet")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        raise ConfigError(
            f"target {target} needs '{missing}', which cannot be imported: pip install it first"
        ) from error
    except Exception as error:
        raise ConfigError(f"target {target}: importing {module_name} failed: {error}") from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        networks = [
            key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, nn.Module)
        ]
        raise ConfigError(f"target {target}: no torch.nn.Module of that name; {did_you_mean(class_name, networks)}")
    return found


def _channel_arguments(cls: type[nn.Module], in_channels: int, out_channels: int) -> dict[str, int]:
    """The constructor's arguments for the channels, as far as they have a usual name."""
    parameters: Mapping[str, inspect.Parameter] = inspect.signature(cls).parameters
    given = dict.fromkeys(IN_CHANNELS, in_channels) | dict.fromkeys(OUT_CHANNELS, out_channels)
    return {name: value for name, value in given.items() if name in parameters}


def _arguments_of(cls: type[nn.Module]) -> tuple[list[str] | None, list[str]]:
    """The names that the constructor takes, None if it takes any, and those it cannot do without."""
    parameters = inspect.signature(cls).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    required = [p.name for p in named if p.default is p.empty]
    return (None if takes_any else [p.name for p in named]), required
