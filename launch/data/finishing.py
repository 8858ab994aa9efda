"""What is left to do to a batch on its device: phase, normalisation and random numbers.

A loader reads, crops and turns images. What costs arithmetic is done here for all images of a batch at once, by the
device that trains; with draws of version 1 the loader has done everything (`Recipe.draws`).
"""

import math

import torch
from torch import Tensor

from quell.configs.fields import Layout
from quell.losses.common.order_statistics import lower_medians
from quell.pipelines.base import Batch
from quell.pipelines.common.random_numbers import normals, split_mix
from quell.shards.reading.pixels import transforms
from quell.shards.reading.recipe import Recipe, bind, theta_name
from quell.shards.reading.split import Split

COMPLEX_AXES = 4
"""Axes of a sample's numbers where they are complex: channels, rows, columns, real and imaginary part."""


class Finisher:
    """Turns the batches of a loader, on any device, into those that methods read (`shards.reading.recipe`).

    Args:
        recipe: Of the loader.
        split: That the loader reads.
        seed: Of the random numbers.
    """

    def __init__(self, recipe: Recipe, split: Split, seed: int = 0) -> None:
        self.recipe, self.seed = recipe, seed
        self._fields = bind(recipe, split, one_size=False)
        self._draws = recipe.draws > 1 and bool(recipe.normals or recipe.seeds)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Batch:
        """The finished batch; images are changed in place."""
        if self.recipe.draws == 1:
            return batch
        finished = dict(batch)
        for field in self._fields:
            name, theta = field.name, batch.get(theta_name(field))
            scale = None
            if self.recipe.normalise == "median":
                shared = finished.get(f"{field.scale_of}_scale")
                scale = typical_magnitudes(batch[name], field.spec.layout) if shared is None else shared
            scale_and_turn_(batch[name], field.spec.layout, scale, theta)
            finished[f"{name}_scale"] = torch.ones_like(batch[name][:, :1, :1, :1].real) if scale is None else scale
            finished.pop(theta_name(field), None)
        del finished["epoch"]
        finished |= self.seeds(batch)
        if self.recipe.normals:
            finished |= self._normals(finished, finished["seeds"])
        if not self.recipe.seeds:
            finished.pop("seeds", None)
        return finished

    def seeds(self, batch: Batch) -> Batch:
        """`seeds` of a loader's batch that lacks them.

        On the host they cost the device one copy instead of forty small kernels.
        """
        if not self._draws or "seeds" in batch:
            return {}
        return {"seeds": split_mix.stream_seeds(self.seed, batch["epoch"], batch["index"])}

    def _normals(self, batch: Batch, seeds: Tensor) -> dict[str, Tensor]:
        """The recipe's standard-normal tensors; those of one shape are drawn together, in few kernels."""
        by_shape: dict[tuple[int, ...], list[str]] = {}
        for name, like in self.recipe.normals.items():
            if like in batch:
                (channels, height, width), margin = batch[like].shape[1:], self.recipe.margins.get(name, 0)
                shape = self.recipe.sizes.get(name, (channels, height + margin, width + margin))
                by_shape.setdefault((*shape, 2) if batch[like].is_complex() else shape, []).append(name)
        drawn: dict[str, Tensor] = {}
        for shape, names in by_shape.items():
            numbers = normals.normals(seeds, [normals.stream_of(name) for name in names], math.prod(shape))
            for name, own in zip(names, numbers.unbind(1), strict=True):
                own = own.reshape(-1, *shape)
                drawn[name] = torch.view_as_complex(own) if len(shape) == COMPLEX_AXES else own
        return drawn


def works_image_by_image(device: torch.device) -> bool:
    """Whether numpy measures one image after the other, which is fastest, instead of the device all at once."""
    return device.type == "cpu"


def typical_magnitudes(image_NCHW: Tensor, layout: Layout) -> Tensor:
    """What each image is normalised by (`transforms.typical_magnitude`), float32 (N, 1, 1, 1)."""
    if works_image_by_image(image_NCHW.device):
        images = image_NCHW.numpy()
        scales = [
            transforms.typical_magnitude(transforms.as_complex(image) if layout == "ri" else image) for image in images
        ]
        return torch.tensor(scales, dtype=torch.float32).view(-1, 1, 1, 1)
    return typical_of((torch.hypot(*image_NCHW.unbind(1)) if layout == "ri" else image_NCHW.abs()).flatten(1))


def typical_of(magnitude_NK: Tensor) -> Tensor:
    """`typical_magnitudes` of magnitudes (N, pixels), without waiting for the device."""
    median_N = lower_medians(magnitude_NK)
    mean_N = magnitude_NK.mean(1)
    typical_N = torch.where(median_N > 0, median_N, torch.where(mean_N > 0, mean_N, 1.0))
    return typical_N.view(-1, 1, 1, 1)


def scale_and_turn_(image_NCHW: Tensor, layout: Layout, scale: Tensor | None, theta_N: Tensor | None) -> None:
    """Divide images by their scale (N, 1, 1, 1), and multiply complex ones by exp(i theta), in place."""
    factor = None if scale is None else 1 / scale
    if theta_N is None or layout == "real":
        if factor is not None and layout == "complex":
            torch.view_as_real(image_NCHW).mul_(factor[..., None])
        elif factor is not None:
            image_NCHW.mul_(factor)
        return
    rotation = torch.polar(torch.ones_like(theta_N) if factor is None else factor.flatten(), theta_N)
    if layout == "complex":
        image_NCHW.mul_(rotation.view(-1, 1, 1, 1))
        return
    batches = image_NCHW.split(1) if works_image_by_image(image_NCHW.device) else [image_NCHW]
    for some_NCHW, own in zip(batches, rotation.split(len(batches[0])), strict=True):
        (real, imaginary), (cosine, sine) = some_NCHW.unbind(1), (own.real.view(-1, 1, 1), own.imag.view(-1, 1, 1))
        turned = real * cosine - imaginary * sine
        imaginary.mul_(cosine).add_(real * sine)
        real.copy_(turned)
