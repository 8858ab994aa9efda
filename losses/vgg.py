"""Perceptual loss: difference of the features that VGG-19, trained on photographs, sees in two images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quell.configs.errors import ConfigError
from quell.configs.sizes import Width
from quell.losses.common import frozen_vgg
from quell.losses.common.pixel_differences import full_precision


class Vgg(nn.Module):
    """Mean of |features(restored) - features(target)| after conv5_4 of VGG-19, before its ReLU.

    The trunk (torchvision's `features[:35]`, 20,024,384 parameters, 512 channels at 1/16 of the size) is frozen and
    never part of a checkpoint.

    Args:
        weights: "imagenet" for torch's published weights, the path of such a file, or null for random weights.
        random_trunk: Confirms `weights: null`; see `losses/common/frozen_vgg.py`.
        normalise: Subtract ImageNet's mean and divide by its standard deviation, as in the training of VGG-19. The
            published Spectroformer script this loss comes from does not.
        sha256: First digits that the checksum of the file must have.
        channels: Channels of the images, supplied by the method.

    Shape:
        Inputs (N, 1 or 3, H, W) in [0, 1], at least 16 px a side; a grey channel is repeated three times. Output:
        scalar in [0, inf), in units of features; 0 for equal images.

    Raises:
        ConfigError: The arguments or the number of channels do not fit or, in `forward`, images are too small.
        MachineError: The published weights cannot be downloaded.
        DataError: The file of weights does not exist, or is not the right one.

    Source:
        Johnson, Alahi and Fei-Fei, Perceptual Losses for Real-Time Style Transfer, ECCV 2016; Simonyan and Zisserman,
        ICLR 2015.
    """

    def __init__(
        self,
        weights: str | None = "imagenet",
        random_trunk: bool = False,
        normalise: bool = False,
        sha256: str = frozen_vgg.VGG19.sha256,
        channels: Width = 3,
    ) -> None:
        super().__init__()
        self.prepare = frozen_vgg.TrunkInput(normalise=normalise)
        self.trunk = frozen_vgg.frozen_trunk(
            frozen_vgg.VGG19, 5, weights=weights, random_trunk=random_trunk, sha256=sha256, channels=channels
        )

    def forward(self, restored_NCHW: Tensor, target_NCHW: Tensor) -> Tensor:
        """Compare two batches of images; gradients flow into the restored ones only."""
        assert restored_NCHW.shape == target_NCHW.shape, (restored_NCHW.shape, target_NCHW.shape)
        size = restored_NCHW.shape[-2:]
        if min(size) < 16:
            raise ConfigError(f"the vgg loss needs images of at least 16x16 px, got {size[0]}x{size[1]}")
        with torch.no_grad():
            target_features = self._features(target_NCHW)
        return F.l1_loss(self._features(restored_NCHW), target_features)

    def _features(self, image_NCHW: Tensor) -> Tensor:
        return full_precision(self.trunk(self.prepare(image_NCHW)))
