"""The frozen trunks behind perceptual losses: the convolutional layers of VGG-16 and VGG-19."""

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from quell.configs.errors import ConfigError, DataError, MachineError
from quell.configs.support.logs import get_logger

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's images in [0, 1], in the order red, green, blue."""

log = get_logger(__name__)


class VggNetwork(NamedTuple):
    """A published network (Simonyan and Zisserman, ICLR 2015) and the file of its weights."""

    name: str
    loss: str
    """Name in YAML of the loss that uses it."""
    url: str
    sha256: str
    """First digits of the file's checksum."""
    blocks: tuple[tuple[int, int], ...]
    """Channels and number of convolutions of each block; blocks are separated by 2x2 max pooling."""


VGG16 = VggNetwork(
    "VGG-16",
    "vgg16",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af",
    ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
)
VGG19 = VggNetwork(
    "VGG-19",
    "vgg",
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "dcbb9e9d",
    ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
)


@contextmanager
def left_out() -> Iterator[None]:
    """Inside the block losses are built without trunks: restoring images needs no file of weights. Not nested."""
    _is_left_out.set(True)
    try:
        yield
    finally:
        _is_left_out.set(False)


_is_left_out = ContextVar("_is_left_out", default=False)


class _LeftOut(nn.Sequential):
    """Stands for a trunk that was left out."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Refuse."""
        raise RuntimeError("this model was loaded for restoring, without the trunk of its perceptual loss")


def frozen_trunk(
    network: VggNetwork, blocks: int, *, weights: str | None, random_trunk: bool, sha256: str, channels: int
) -> nn.Sequential:
    """Build the first blocks of a network up to their last convolution, frozen and in no state dict.

    Modules are numbered as in torchvision's `features`. Weights are in channels-last memory format, in which wide
    convolutions are fastest.

    Args:
        network: `VGG16` or `VGG19`.
        blocks: Number of blocks.
        weights: "imagenet" for torch's published file, from the hub's cache or else downloaded; the path of such a
            file; or None for random weights, the same in every run.
        random_trunk: Must be True with `weights=None` and only then: such features were never trained to see anything.
        sha256: First digits that the checksum of the file must have; "" accepts any file.
        channels: Channels of the images that will be compared, 1 or 3.

    Raises:
        ConfigError: The arguments or the number of channels do not fit.
        MachineError: The file cannot be downloaded.
        DataError: The file does not exist, or does not hold the weights.
    """
    if channels not in (1, 3):
        raise ConfigError(
            f"the {network.loss} loss is for grey or RGB images, but these have {channels} channels: "
            "leave this loss out"
        )
    if (weights is None) != random_trunk:
        raise ConfigError(
            f"{network.loss}: weights: null and random_trunk: true go together; weights: null alone would train on "
            "features that were never trained, random_trunk: true alone would have no effect"
        )
    if _is_left_out.get():
        return _LeftOut()
    layers = _random_layers(network.blocks[:blocks])
    if weights is None:
        log.warning("the %s loss compares features of a random, untrained trunk (random_trunk: true)", network.loss)
    else:
        _load(layers, _weights_file(network, weights), network, sha256)
    return layers


class TrunkInput(nn.Module):
    """Prepares images for a trunk: repeats a grey channel three times, and optionally normalises as for ImageNet.

    Args:
        normalise: Subtract ImageNet's mean and divide by its standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        # buffers, for a constant made in every step would be copied to the device, which the host waits for
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Turn real images (N, 1 or 3, H, W) in [0, 1] into (N, 3, H, W)."""
        N, C, H, W = image_NCHW.shape
        assert C in (1, 3) and not image_NCHW.is_complex(), (image_NCHW.shape, image_NCHW.dtype)
        image_NCHW = image_NCHW.expand(N, 3, H, W)
        if not self.normalise:
            return image_NCHW
        return (image_NCHW - self.mean.to(image_NCHW.dtype)) / self.std.to(image_NCHW.dtype)


class _FrozenConv(nn.Conv2d):
    """A 3x3 convolution that is never trained and never saved, because its weights come from a file of their own."""

    def __init__(self, in_channels: int, out_channels: int, generator: torch.Generator) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        assert self.bias is not None
        std = (2 / (9 * out_channels)) ** 0.5  # He's for fan out, which torchvision draws VGG's weights with
        with torch.no_grad():
            self.weight.normal_(0, std, generator=generator)
            self.bias.zero_()
        self.weight = nn.Parameter(self.weight.to(memory_format=torch.channels_last))
        self.requires_grad_(False)

    def _save_to_state_dict(self, *arguments: object, **options: object) -> None:
        """Save nothing."""

    def _load_from_state_dict(self, *arguments: object, **options: object) -> None:
        """Load nothing, and report nothing as missing."""


def _random_layers(blocks: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """The layers of these blocks but for the last ReLU, with weights that do not depend on the global seed."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for number, (width, convolutions) in enumerate(blocks):
        if number:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [_FrozenConv(channels, width, generator), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers[:-1])


def _weights_file(network: VggNetwork, weights: str) -> Path:
    """The file of weights on this machine; the published one is downloaded if the hub's cache does not have it."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DataError(
                f"the {network.loss} loss's weights '{weights}' do not exist: give the path of a {network.name} "
                "state dict"
            )
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / network.url.rpartition("/")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(network.url, str(path), hash_prefix=network.sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"the {network.loss} loss needs {network.url}, which could not be downloaded ({error}): put this file "
                f"at {path}, or give its path as weights, or train on a random trunk with weights: null and "
                "random_trunk: true"
            ) from error
    return path


def _load(layers: nn.Sequential, path: Path, network: VggNetwork, sha256: str) -> None:
    """Fill a trunk from a state dict (`features.0.weight`, ...) whose checksum starts with `sha256`."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum.update(block)
    digits = checksum.hexdigest()
    if not digits.startswith(sha256.lower()):
        raise DataError(
            f"{path} is not the expected file of {network.name} weights: its sha256 starts with {digits[:8]}, not "
            f"{sha256}; download it again, or give the first digits of its own checksum as sha256"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} does not hold {network.name}: torch cannot read it as a file of weights") from error
    if not isinstance(state, dict):
        raise DataError(f"{path} does not hold {network.name}: expected a state dict, got a {type(state).__name__}")
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                key = f"features.{number}.{name}"
                value = state.get(key)
                if value is None or value.shape != parameter.shape:
                    raise DataError(f"{path} does not hold {network.name}: '{key}' is missing or has another shape")
                parameter.copy_(value)
