"""The network behind LPIPS: AlexNet's convolutional layers and a learned weight per feature."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

SHIFT = (-0.030, -0.088, -0.188)
"""Mean per channel that is subtracted from images in [-1, 1]."""
SCALE = (0.458, 0.448, 0.450)
"""Standard deviation per channel that the result is divided by."""


class PerceptualDistance(nn.Module):
    """Perceptual distance of image pairs from the features after AlexNet's five ReLUs.

    Features are scaled to unit length over channels; their squared differences are weighted per channel and averaged
    over the image, and the five averages are added up. The weights are frozen.

    Args:
        trunk: State dict of torchvision's AlexNet.
        weights: The published linear layers, "lin0.model.1.weight" to "lin4.model.1.weight".

    Shape:
        Inputs (N, 3, H, W) in [-1, 1], at least 32 px a side. Output (N,), 0 for equal images.

    Source:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018; version 0.1,
        net alex.
    """

    def __init__(self, trunk: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
        )
        self.load_state_dict({key: value for key, value in trunk.items() if key.startswith("features.")})
        for k in range(5):
            self.register_buffer(f"weight{k}", weights[f"lin{k}.model.1.weight"].clone())
        self.eval().requires_grad_(False)

    def forward(self, first_N3HW: Tensor, second_N3HW: Tensor) -> Tensor:
        """Distance of each pair of images."""
        total = first_N3HW.new_zeros(len(first_N3HW))
        for k, (a, b) in enumerate(zip(self._unit_features(first_N3HW), self._unit_features(second_N3HW), strict=True)):
            weight = cast(Tensor, getattr(self, f"weight{k}"))
            total = total + functional.conv2d((a - b).square(), weight).mean(dim=(1, 2, 3))
        return total

    def _unit_features(self, image_N3HW: Tensor) -> list[Tensor]:
        """Features after each ReLU, of unit length over channels."""
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1).to(image_N3HW) for values in (SHIFT, SCALE))
        x, features = (image_N3HW - shift) / scale, []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                features.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return features
