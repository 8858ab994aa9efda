"""Difference of what a network trained on photographs sees: perceptual loss on VGG-19 features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common import frozen_vgg
from losses.common.pixel_differences import full_precision


class Vgg(nn.Module):
    """Mean |features(restored) - features(target)| after conv5_4 of VGG-19, before its ReLU; for images in [0, 1].

    The trunk (torchvision's `features[:35]`, 20,024,384 parameters, 512 channels at 1/16 of the size) is frozen and
    never in a checkpoint. Images have 3 channels, or 1 that is shown three times, and at least 16 px.

    - `weights`, `random_trunk`, `sha256`: "imagenet", a path, or null for an untrained one (common/frozen_vgg.py).
    - `channels`: of the images, given by the method.
    - `normalise`: subtract ImageNet's mean and divide by its deviation first, as the trunk was trained; the user's
      script does not.

    Raises ConfigError for arguments and channels, MachineError when the file cannot be had, DataError when it is
    not the right one. Source: Johnson, Alahi and Fei-Fei, ECCV 2016; Simonyan and Zisserman, ICLR 2015.
    """

    def __init__(
        self,
        weights: str | None = "imagenet",
        random_trunk: bool = False,
        normalise: bool = False,
        sha256: str = frozen_vgg.VGG19.sha256,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.trunk = frozen_vgg.trunk(
            frozen_vgg.VGG19, 5, weights=weights, random_trunk=random_trunk, sha256=sha256, channels=channels
        )

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Scalar, in units of features; 0 for equal images. No gradient flows into the target."""
        assert restored_NCHW.shape == target_NCHW.shape, (restored_NCHW.shape, target_NCHW.shape)
        size = restored_NCHW.shape[-2:]
        if min(size) < 16:
            raise ConfigError(f"the vgg loss needs images of at least 16 px, but these are {size[0]}x{size[1]}")
        with torch.no_grad():
            wanted = self._features(target_NCHW)
        return F.l1_loss(self._features(restored_NCHW), wanted)

    def _features(self, image_NCHW: Tensor) -> Tensor:
        return full_precision(self.trunk(frozen_vgg.shown(image_NCHW, normalise=self.normalise)))
