"""Perceptual loss: difference of the features that VGG-16 sees in two images, at four depths."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Side, Width
from quell.losses.common import frozen_vgg
from quell.losses.common.bilinear_resizing import resized
from quell.losses.common.pixel_differences import full_precision

TAPS = (3, 8, 15, 22)
"""relu1_2, relu2_2, relu3_3 and relu4_3 in torchvision's numbering of `features`."""


class Vgg16(nn.Module):
    """Sum over relu1_2, relu2_2, relu3_3 and relu4_3 of VGG-16 of the mean of |features(restored) - features(target)|.

    Images are normalised by ImageNet's mean and standard deviation and resized bilinearly to `size_px` a side. The
    trunk (7,635,264 parameters) is frozen and never part of a checkpoint.

    Args:
        weights: "imagenet" for torch's published weights, the path of such a file, or null for random weights.
        random_trunk: Confirms `weights: null`; see `losses/common/frozen_vgg.py`.
        size_px: Side of the resized images, at least 8; 224 is what the network was trained on.
        sha256: First digits that the checksum of the file must have.
        channels: Channels of the images, supplied by the method.

    Shape:
        Inputs (N, 1 or 3, H, W) in [0, 1], of any H and W; a grey channel is repeated three times. Output: scalar in
        [0, inf), in units of features; 0 for equal images.

    Raises:
        ConfigError: The arguments or the number of channels do not fit.
        MachineError: The published weights cannot be downloaded.
        DataError: The file of weights does not exist, or is not the right one.

    Source:
        The perceptual loss in the code of Spectroformer's authors (Khan et al., WACV 2024).
    """

    def __init__(
        self,
        weights: str | None = "imagenet",
        random_trunk: bool = False,
        size_px: Side = 224,
        sha256: str = frozen_vgg.VGG16.sha256,
        channels: Width = 3,
    ) -> None:
        super().__init__()
        if size_px < 8:
            raise ConfigError(f"vgg16: size_px must be at least 8, for three halvings, got {size_px}")
        self.size_px = size_px
        self.prepare = frozen_vgg.TrunkInput(normalise=True)
        self.trunk = frozen_vgg.frozen_trunk(
            frozen_vgg.VGG16, 4, weights=weights, random_trunk=random_trunk, sha256=sha256, channels=channels
        )
        self.trunk.append(nn.ReLU())

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into the restored ones only."""
        assert restored_NCHW.shape == target_NCHW.shape, (restored_NCHW.shape, target_NCHW.shape)
        with torch.no_grad():
            target_features = self._features(target_NCHW)
        pairs = zip(self._features(restored_NCHW), target_features, strict=True)
        return torch.stack([F.l1_loss(restored, target) for restored, target in pairs]).sum()

    def _features(self, image_NCHW: Tensor) -> list[Tensor]:
        """Features after each of the TAPS."""
        x = resized(self.prepare(image_NCHW), self.size_px)
        features = []
        for number, layer in enumerate(self.trunk):
            x = layer(x)
            if number in TAPS:
                features.append(full_precision(x))
        return features
