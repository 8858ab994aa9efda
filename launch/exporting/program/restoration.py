"""A run's whole restoration as one module: images in stored units to restored images in stored units.

Legend: N images, C channels, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quell.configs.fields import FieldSpec
from quell.launch.data import finishing
from quell.launch.inference.restorer import Restorer
from quell.pipelines.base import Batch


@dataclass(frozen=True)
class Port:
    """An image that a program takes or returns."""

    name: str
    field: str
    """The noisy field that it is, or that it is restored from."""
    channels: int
    """Of the tensor (N, channels, H, W); two for complex images."""
    layout: str
    """real; or ri: the real and the imaginary part."""


class RestorationProgram(nn.Module):
    """What `quell denoise --tile 0` computes for a stack of images, of any N, H and W, as one `forward`.

    Normalisation, estimates of the noise level, all passes with their random numbers, padding and cropping are inside.

    Attributes:
        inputs: The images that `forward` takes, in order.
        outputs: The images that it returns, in order.
        levels: Fields whose noise level `forward` takes after the images, (1,) each in stored units; 0 leaves a level
            to what the run knows or estimates.
    """

    def __init__(self, restorer: Restorer, *, takes_levels: bool = True) -> None:
        """Take the networks of a run, on the CPU."""
        super().__init__()
        self.pipeline = restorer.pipeline.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.pipeline.refresh_host_copies()
        self._needs, self._normalises = restorer.needs, restorer.model.config.data.normalise == "median"
        names = [name for name in restorer.input_fields if name in restorer.restored_fields]
        specs = self.pipeline.fields
        self.inputs = [_port(name, name, specs[name]) for name in names]
        self.outputs = [_port(name, output.noisy, specs[output.noisy]) for name, output in restorer.outputs.items()]
        told = self.pipeline.noise_inputs() if takes_levels else None
        self.levels = [f"{name}_sigma" for name in told.fields] if told else []

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Restore images.

        Args:
            values: The images of `inputs`, float32 (N, C, H, W), then the levels, float32 (1,).

        Returns:
            The images of `outputs`, float32 (N, C, H, W).
        """
        images = dict(zip((port.name for port in self.inputs), values, strict=False))
        batch = self._batch(images)
        batch |= self.pipeline.image_statistics(batch)
        told = self.pipeline.noise_inputs()
        if self.levels and told is not None:
            given = values[len(self.inputs) :]
            batch |= told.told(batch, dict(zip(told.fields, given, strict=True)))
        restored = self.pipeline.restore(batch)
        return tuple(_as_channels(restored[port.name]) * batch[f"{port.field}_scale"] for port in self.outputs)

    def _batch(self, images: dict[str, Tensor]) -> Batch:
        """The images as in a training batch."""
        batch: Batch = {}
        # as Restorer.to_batch: fields with a scale of their own first
        for name in sorted(images, key=lambda name: self._needs.fields[name].scale_of is not None):
            image_NCHW, spec = images[name], self.pipeline.fields[name]
            scale = batch.get(f"{self._needs.fields[name].scale_of}_scale")
            if scale is None:
                scale = self._typical(image_NCHW, is_complex=spec.layout != "real")
            normalised = image_NCHW * (1 / scale)
            batch[name] = torch.complex(normalised[:, :1], normalised[:, 1:]) if spec.is_complex else normalised
            batch[f"{name}_scale"] = scale
        batch["index"] = torch.arange(image_NCHW.shape[0], device=image_NCHW.device)
        return batch

    def _typical(self, image_NCHW: Tensor, *, is_complex: bool) -> Tensor:
        """What each image is divided by, (N, 1, 1, 1)."""
        if not self._normalises:
            return torch.ones_like(image_NCHW[:, :1, :1, :1])
        # ONNX has no hypot
        magnitude = image_NCHW.square().sum(1).sqrt() if is_complex else image_NCHW.abs()
        return finishing.typical_of(magnitude.flatten(1))


def _port(name: str, field: str, spec: FieldSpec) -> Port:
    is_complex = spec.layout != "real"
    return Port(name, field, 2 if is_complex else spec.channels, "ri" if is_complex else "real")


def _as_channels(image_NCHW: Tensor) -> Tensor:
    return torch.cat([image_NCHW.real, image_NCHW.imag], 1) if image_NCHW.is_complex() else image_NCHW.float()
