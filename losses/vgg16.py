"""Difference of what a network trained on photographs sees, at four depths: perceptual loss on VGG-16 features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import ConfigError
from losses.common import frozen_vgg
from losses.common.pixel_differences import full_precision

TAPS = (3, 8, 15, 22)
"""relu1_2, relu2_2, relu3_3 and relu4_3 in torchvision's numbering of `features`."""


class Vgg16(nn.Module):
    """Sum over relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16 of the mean |features(restored) - features(target)|.

    Images in [0, 1] of any size, 3 channels or 1 that is shown three times, normalised by ImageNet's mean and deviation
    and resized bilinearly to `size_px` a side, at least 8: 224 is what the network was trained on. The trunk (7,635,264
    parameters) is frozen and never in a checkpoint. `weights`, `random_trunk`, `sha256`: see common/frozen_vgg.py;
    `channels` are given by the method.

    Raises ConfigError for arguments and channels, MachineError when the file cannot be had, DataError when it is
    not the right one. Source: the perceptual loss of Spectroformer's authors' code (Khan et al., WACV 2024).
    """

    def __init__(
        self,
        weights: str | None = "imagenet",
        random_trunk: bool = False,
        size_px: int = 224,
        sha256: str = frozen_vgg.VGG16.sha256,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if size_px < 8:
            raise ConfigError(f"vgg16: size_px is {size_px}; three halvings need at least 8")
        self.size_px = size_px
        self.trunk = frozen_vgg.trunk(
            frozen_vgg.VGG16, 4, weights=weights, random_trunk=random_trunk, sha256=sha256, channels=channels
        )
        self.trunk.append(nn.ReLU())

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Scalar, in units of features; 0 for equal images. No gradient flows into the target."""
        assert restored_NCHW.shape == target_NCHW.shape, (restored_NCHW.shape, target_NCHW.shape)
        with torch.no_grad():
            wanted = self._features(target_NCHW)
        pairs = zip(self._features(restored_NCHW), wanted, strict=True)
        return torch.stack([F.l1_loss(made, target) for made, target in pairs]).sum()

    def _features(self, image_NCHW: Tensor) -> list[Tensor]:
        x = F.interpolate(frozen_vgg.shown(image_NCHW, normalise=True), size=(self.size_px,) * 2, mode="bilinear")
        found = []
        for number, layer in enumerate(self.trunk):
            x = layer(x)
            if number in TAPS:
                found.append(full_precision(x))
        return found
