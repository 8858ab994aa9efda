"""The frozen trunks behind perceptual losses: VGG-16 and VGG-19 without what follows their convolutions."""

import hashlib
import logging
import pickle
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from configs.errors import ConfigError, DataError, MachineError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photographs in [0, 1], red green blue."""

log = logging.getLogger(__name__)


class Published(NamedTuple):
    """A network (Simonyan and Zisserman, ICLR 2015) and the file of its weights."""

    name: str
    loss: str
    """What the loss that uses it is called in a YAML."""
    url: str
    sha256: str
    """How the file's checksum begins."""
    blocks: tuple[tuple[int, int], ...]
    """Channels and convolutions of each block; a max-pool by 2 stands between blocks."""


VGG16 = Published(
    "VGG-16",
    "vgg16",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af",
    ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
)
VGG19 = Published(
    "VGG-19",
    "vgg",
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "dcbb9e9d",
    ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
)


def trunk(
    network: Published, blocks: int, *, weights: str | None, random_trunk: bool, sha256: str, channels: int
) -> nn.Sequential:
    """The first `blocks` blocks up to their last convolution; module numbers are those of torchvision's `features`.

    `weights`: "imagenet" takes torch's published file from the hub's cache or the network; a path takes that file; None
    leaves the trunk random (the same in every run) and needs `random_trunk`, because such features were never trained
    to see anything. `sha256`: how the file's checksum must begin. `channels`: of the images that will be shown. The
    weights lie channels-last, the order in which wide convolutions are fastest.
    Raises ConfigError for arguments and channels, MachineError when the file cannot be had, DataError when it is
    not the right one.
    """
    if channels not in (1, 3):
        raise ConfigError(
            f"the {network.loss} loss is for grey or RGB images, but these have {channels} channels: "
            "leave this loss out"
        )
    if (weights is None) != random_trunk:
        raise ConfigError(
            f"{network.loss}: weights: null and random_trunk: true go together; the first alone would train on "
            "features that were never trained, the second alone would not be used"
        )
    layers = _layers(network.blocks[:blocks]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if weights is None:
        log.warning("the %s loss compares features of a random, untrained trunk, as random_trunk asks", network.loss)
    else:
        _load(layers, _find(network, weights), network, sha256)
    return layers


def shown(image_NCHW: Tensor, *, normalise: bool) -> Tensor:
    """The image as a trunk takes it: a grey one three times, and where asked in ImageNet's mean and deviation."""
    N, C, H, W = image_NCHW.shape
    assert C in (1, 3) and not image_NCHW.is_complex(), (image_NCHW.shape, image_NCHW.dtype)
    image_NCHW = image_NCHW.expand(N, 3, H, W)
    if not normalise:
        return image_NCHW
    mean, std = (image_NCHW.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (image_NCHW - mean) / std


class _Frozen(nn.Conv2d):
    """A 3x3 convolution that is not trained and not part of any state dict: it is known from its file."""

    def __init__(self, channels_in: int, channels_out: int, generator: torch.Generator) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1)
        assert self.bias is not None
        spread = (2 / (9 * channels_out)) ** 0.5
        with torch.no_grad():
            self.weight.normal_(0, spread, generator=generator)
            self.bias.zero_()
        self.requires_grad_(False)

    def _save_to_state_dict(self, *arguments: object, **options: object) -> None:
        """Nothing to save."""

    def _load_from_state_dict(self, *arguments: object, **options: object) -> None:
        """Nothing to load, and nothing missing."""


def _layers(blocks: tuple[tuple[int, int], ...]) -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for number, (wide, convolutions) in enumerate(blocks):
        if number:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [_Frozen(channels, wide, generator), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers[:-1])


def _find(network: Published, weights: str) -> Path:
    """The file of weights on this machine, fetched first if it is the published one and not in the hub's cache."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DataError(
                f"the {network.loss} loss's weights {weights} do not exist: give the path of a "
                f"{network.name} state dict"
            )
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / network.url.rpartition("/")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(network.url, str(path), hash_prefix=network.sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise MachineError(
                f"the {network.loss} loss needs {network.url}, which could not be fetched ({error}): put that file at "
                f"{path}, or give its path as weights, or train on a random trunk with weights: null and random_trunk: "
                "true"
            ) from error
    return path


def _load(layers: nn.Sequential, path: Path, network: Published, sha256: str) -> None:
    """Fill a trunk from a state dict (`features.0.weight`, ...) whose checksum begins with `sha256`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if not found.startswith(sha256.lower()):
        raise DataError(
            f"{path} is not the expected file of {network.name} weights: its sha256 begins {found[:8]}, not {sha256}; "
            "fetch it again, or give the beginning of its own checksum as sha256"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} holds no {network.name}: it is no file of weights that torch saved") from error
    if not isinstance(state, dict):
        raise DataError(f"{path} holds no {network.name}: expected a state dict, found a {type(state).__name__}")
    with torch.no_grad():
        for number, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                key = f"features.{number}.{name}"
                value = state.get(key)
                if value is None or value.shape != parameter.shape:
                    raise DataError(f"{path} holds no {network.name}: {key} is missing or has another shape")
                parameter.copy_(value)
