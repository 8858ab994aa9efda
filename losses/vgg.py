"""Difference of what a network trained on photographs sees: perceptual loss on VGG-19 features."""

import hashlib
import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import ConfigError, DataError, EnvironmentProblem
from losses._numbers import full_precision

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
SHA256 = "dcbb9e9d"
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Channels and convolutions of each block; a max-pool by 2 stands between blocks."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's photographs in [0, 1], red green blue."""

log = logging.getLogger(__name__)


class Vgg(nn.Module):
    """Mean |features(restored) - features(target)| after conv5_4 of VGG-19, before its ReLU; for images in [0, 1].

    The trunk (torchvision's `features[:35]`, 20,024,384 parameters, 512 channels at 1/16 of the size) is frozen and
    never in a checkpoint. Images have 3 channels, or 1 that is shown three times, and at least 16 px.

    - `weights`: "imagenet" takes torch's published file from the hub's cache or the network; a path takes that file;
      null leaves the trunk random (the same in every run) and needs `random_trunk: true`, because such features were
      never trained to see anything.
    - `sha256`: how the file's checksum must begin.
    - `channels`: of the images, given by the method.
    - `normalise`: subtract ImageNet's mean and divide by its deviation first, as the trunk was trained; the user's
      script does not.

    Raises ConfigError for arguments and channels, EnvironmentProblem when the file cannot be had, DataError when it is
    not the right one. Source: Johnson, Alahi and Fei-Fei, ECCV 2016; Simonyan and Zisserman, ICLR 2015.
    """

    def __init__(
        self,
        weights: str | None = "imagenet",
        random_trunk: bool = False,
        normalise: bool = False,
        sha256: str = SHA256,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ConfigError(
                f"the vgg loss is for grey or RGB images, but these have {channels} channels: leave this loss out"
            )
        if (weights is None) != random_trunk:
            raise ConfigError(
                "vgg: weights: null and random_trunk: true go together; the first alone would train on features "
                "that were never trained, the second alone would not be used"
            )
        self.trunk = _trunk()
        self.normalise = normalise
        if weights is None:
            log.warning("the vgg loss compares features of a random, untrained trunk, as random_trunk asks")
        else:
            _load(self.trunk, _find(weights), sha256)

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Scalar, in units of features; 0 for equal images. No gradient flows into the target."""
        assert restored_NCHW.shape == target_NCHW.shape, (restored_NCHW.shape, target_NCHW.shape)
        with torch.no_grad():
            wanted = full_precision(self.trunk(self._shown(target_NCHW)))
        return F.l1_loss(full_precision(self.trunk(self._shown(restored_NCHW))), wanted)

    def _shown(self, image_NCHW: Tensor) -> Tensor:
        """The image as the trunk takes it."""
        N, C, H, W = image_NCHW.shape
        assert C in (1, 3) and not image_NCHW.is_complex(), (image_NCHW.shape, image_NCHW.dtype)
        if min(H, W) < 16:
            raise ConfigError(f"the vgg loss needs images of at least 16 px, but these are {H}x{W}")
        image_NCHW = image_NCHW.expand(N, 3, H, W)
        if not self.normalise:
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


def _trunk() -> nn.Sequential:
    """VGG-19 up to its last convolution; module numbers are those of torchvision's `features`."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for number, (wide, convolutions) in enumerate(BLOCKS):
        if number:
            layers.append(nn.MaxPool2d(2))
        for _ in range(convolutions):
            layers += [_Frozen(channels, wide, generator), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers[:-1])


def _find(weights: str) -> Path:
    """The file of weights on this machine, fetched first if it is the published one and not in the hub's cache."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise DataError(f"the vgg loss's weights {weights} do not exist: give the path of a VGG-19 state dict")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256, progress=False)
        except (OSError, RuntimeError) as error:
            raise EnvironmentProblem(
                f"the vgg loss needs {URL}, which could not be fetched ({error}): put that file at {path}, or give its "
                "path as weights, or train on a random trunk with weights: null and random_trunk: true"
            ) from error
    return path


def _load(trunk: nn.Sequential, path: Path, sha256: str) -> None:
    """Fill the trunk from a VGG-19 state dict (`features.0.weight`, ...) whose checksum begins with `sha256`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if not found.startswith(sha256.lower()):
        raise DataError(
            f"{path} is not the expected file of VGG-19 weights: its sha256 begins {found[:8]}, not {sha256}; fetch it "
            "again, or give the beginning of its own checksum as sha256"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for number, layer in enumerate(trunk):
            for name, parameter in layer.named_parameters():
                value = state.get(f"features.{number}.{name}")
                if value is None or value.shape != parameter.shape:
                    raise DataError(f"{path} holds no VGG-19: features.{number}.{name} is missing or has another shape")
                parameter.copy_(value)
