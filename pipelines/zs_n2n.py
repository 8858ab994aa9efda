"""Zero-Shot Noise2Noise: a small network learns to restore an image from two halves of that image alone."""

import torch
from torch import Tensor, nn

from quell.configs.schema import Count, Network, Rate
from quell.pipelines.base import Batch, PhaseOutput, detached
from quell.pipelines.common.self_supervised import subsampling
from quell.pipelines.common.self_supervised.adaptation import adapted, places
from quell.pipelines.common.self_supervised.base import (
    SelfSupervisedConfig,
    SelfSupervisedPipeline,
    correlation_warnings,
)


class ZsN2N(SelfSupervisedPipeline["ZsN2N.Config"]):
    """Noise2Noise between the means of the two diagonals of every cell of 2 x 2 pixels, d1(y) and d2(y).

    For a network f and a noisy image y, the loss is half of

        |f(d1 y) - d2 y|^2 + |f(d2 y) - d1 y|^2 + |f(d1 y) - d1 f(y)|^2 + |f(d2 y) - d2 f(y)|^2

    as means over pixels. The published method trains a new network on every image. Here training finds common weights
    for the images of the training split, and restoring an image goes on from these for `adapt_steps` on that image
    alone, in evaluation and in launch/denoise.py alike; the published procedure is a run of one step with many of
    these. Noise that is correlated between neighbouring pixels is learned as if it were structure.
    Source: Mansour and Heckel, CVPR 2023.
    """

    class Config(SelfSupervisedConfig):
        """Settings of Zero-Shot Noise2Noise."""

        network: Network = {
            "name": "dncnn",
            "depth": 3,
            "width": 48,
            "bias": True,
            "norm": "none",
            "activation": "leaky_relu",
            "init_std": 0.02,
        }
        """Network from the noisy image to the restored one; small, because a single image is little data."""
        adapt_steps: Count = 200
        """Steps on each image before it is restored; 0 restores with the trained weights."""
        adapt_lr: Rate = 1e-3
        """Learning rate of these steps."""
        adapt_crop: Count = 64
        """Side in pixels of the random window that each of these steps sees; 0 for the whole image, or the whole tile
        (launch/denoise.py --tile)."""

    def warnings(self) -> list[str]:
        """Whether the noise of the training images is correlated between pixels."""
        return correlation_warnings(self.found, "zs_n2n")

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        """The squared errors between the halves, and between the restored halves and the halves of the restored."""
        prediction, consistency = _terms(self.network, batch["noisy"])
        scalars = {"l2": prediction, "consistency": consistency}
        return PhaseOutput(prediction + consistency, detached(scalars), {})

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        """Each image restored by the weights adapted to it; the windows depend on the sample's index alone."""
        if not self.config.adapt_steps:
            return super().restore(batch)
        restored = [
            self._adapted(image[None], int(index))(image[None])
            for image, index in zip(batch["noisy"], batch["index"], strict=True)
        ]
        return {"restored": torch.cat(restored)}

    def export_obstacle(self) -> str:
        """Adapting to an image is training."""
        if not self.config.adapt_steps:
            return ""
        return (
            "it goes on training on every image that it restores, which a program for other runtimes cannot; with "
            "pipeline.adapt_steps=0 it restores with the trained weights alone"
        )

    def _adapted(self, image_1CHW: Tensor, index: int) -> nn.Module:
        settings = self.config
        return adapted(
            self.network,
            image_1CHW,
            lambda network, window: sum(_terms(network, window), torch.zeros(())),
            steps=settings.adapt_steps,
            lr=settings.adapt_lr,
            crop_px=settings.adapt_crop,
            below=places(index, self.draws),
        )


def _terms(network: nn.Module, noisy_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The prediction and the consistency term."""
    noisy = subsampling.even(noisy_NCHW)
    first, second = subsampling.diagonal_halves(noisy)
    whole_first, whole_second = subsampling.diagonal_halves(network(noisy))
    from_first, from_second = network(first), network(second)
    prediction = ((from_first - second).square().mean() + (from_second - first).square().mean()) / 2
    consistency = ((from_first - whole_first).square().mean() + (from_second - whole_second).square().mean()) / 2
    return prediction, consistency
