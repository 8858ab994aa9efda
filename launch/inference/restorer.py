"""Arrays as stored -> restored arrays as stored, by a trained run: units, channels and tiles as in training.

Legend: N images, C channels, H height, W width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.errors import DataError
from configs.fields import FieldSpec
from launch.inference import tiling, trained_model
from pipelines.base import Output
from shards.reading import transforms
from shards.reading.recipe import INTEGER_MAX

SMALLEST_PX = 8
"""An image narrower than this is rather a colour image taken for a stack."""


@dataclass(frozen=True)
class Tiles:
    """How large images are cut, in pixels; `batch` tiles are restored together."""

    size: int = 256
    overlap: int = 32
    batch: int = 4


class Restorer:
    """A trained run that restores arrays of the kind of images it was trained on."""

    def __init__(
        self,
        run: Path,
        *,
        which: str = "best",
        tiles: Tiles = Tiles(),
        device: torch.device | None = None,
    ) -> None:
        """Raises CheckpointError without a usable checkpoint."""
        self.tiles, self.device = tiles, device or best_device()
        self.trained = trained_model.load(run, which=which, device=self.device)
        self.pipeline = self.trained.pipeline
        self.needs = type(self.pipeline).needs(self.trained.config.pipeline)
        self.outputs: dict[str, Output] = {n: o for n, o in self.pipeline.outputs.items() if o.primary}
        members = self.needs.members(self.trained.config.data.fields)
        self.fields = {
            name: members[name]
            for name, source in self.needs.fields.items()
            if source.draw == "same" and not source.evaluation and name in self.trained.images
        }
        """The fields the method may read when it restores, each with its name in the run's own data."""
        self.restored = list(dict.fromkeys(output.noisy for output in self.pipeline.outputs.values()))
        """The fields that are restored."""
        self.colour = self.trained.images[self.restored[0]].channels > 1

    def restore(self, arrays: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """Restored arrays by output name, each with the shape of its noisy field.

        `arrays`: a field's (H, W), (H, W, C), (N, H, W) or (N, H, W, C) array; all fields of one N, H and W. uint8 and
        uint16 come back as they came, rounded and clipped to their range; complex as complex64 (unless the run works on
        magnitudes); everything else as float32, unclipped, in the units it came in.
        """
        stacks = {name: self._stack(array, name, where) for name, array in arrays.items()}
        sizes = {name: stack.shape[:3] for name, stack in stacks.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(
                f"{where}: the fields differ in size: "
                + ", ".join(f"{name} is {size[0]} x {size[1:]}" for name, size in sizes.items())
            )
        batch: dict[str, Tensor] = {}
        for name in sorted(stacks, key=lambda name: self.needs.fields[name].scale_of is not None):
            shared = batch.get(f"{self.needs.fields[name].scale_of}_scale")
            batch[name], batch[f"{name}_scale"] = self._tensor(stacks[name], self.pipeline.fields[name], shared)
        batch["index"] = torch.arange(len(batch[name])).reshape(-1, 1, 1, 1)
        with torch.inference_mode():
            batch |= self.pipeline.image_statistics(batch)
            restored = tiling.tiled(
                lambda images: self._run(images, where),
                batch,
                tile=self.tiles.size,
                overlap=self.tiles.overlap,
                batch=self.tiles.batch,
                device=self.device,
            )
        return {
            name: self._array(
                restored[name] * batch[f"{output.noisy}_scale"],
                arrays[output.noisy],
                self.pipeline.fields[output.noisy],
            )
            for name, output in self.outputs.items()
        }

    def _run(self, images: dict[str, Tensor], where: str) -> dict[str, Tensor]:
        index = images.pop("index").flatten()
        batch: dict[str, Any] = {**images, "index": index, "key": [str(i) for i in index.tolist()]}
        try:
            restored = self.pipeline.restore(batch)
        except KeyError as error:
            if error.args[0] not in self.needs.fields:
                raise
            pairs = ",".join(f"{name}=FILE" for name in [*images, error.args[0]] if name in self.needs.fields)
            raise DataError(f"{where}: this method also reads '{error.args[0]}': give {pairs}") from error
        return {
            name: value if value.is_complex() else value.float()
            for name, value in restored.items()
            if name in self.outputs
        }

    def _stack(self, array: np.ndarray, field: str, where: str) -> np.ndarray:
        """The array as (N, H, W, C), float32, complex64, uint8 or uint16."""
        kind = self.trained.images[field]
        image_ndim = 2 if kind.channels == 1 else 3
        channels = array.shape[-1] if image_ndim == 3 else 1
        fits = array.ndim in (image_ndim, image_ndim + 1) and channels == kind.channels
        if self.trained.config.data.representation != "magnitude":
            fits = fits and np.iscomplexobj(array) == kind.is_complex
        if not fits:
            expected = "(H, W) or (N, H, W)" if image_ndim == 2 else f"(H, W, {kind.channels}), or stacks of it"
            raise DataError(
                f"{where}: {field} is {array.dtype} of shape {array.shape}, but this run was trained on "
                f"{kind.words} images: give {expected}"
            )
        stack = array.reshape(-1, *array.shape[-image_ndim:])
        stack = stack[..., None] if image_ndim == 2 else stack
        if min(stack.shape[1:3]) < SMALLEST_PX:
            looks = f" (a colour image of {array.shape[-1]} channels?)" if array.shape[-1] in (2, 3, 4) else ""
            raise DataError(
                f"{where}: {field} has shape {array.shape}{looks}, but this run reads (H, W) or (N, H, W) "
                f"with at least {SMALLEST_PX} px a side"
            )
        if np.iscomplexobj(array):
            return stack.astype(np.complex64)
        return stack if str(array.dtype) in INTEGER_MAX else stack.astype(np.float32)

    def _tensor(self, stack_NHWC: np.ndarray, spec: FieldSpec, shared: Tensor | None) -> tuple[Tensor, Tensor]:
        """The field as in a training batch, NCHW, and what it was divided by, (N, 1, 1, 1)."""
        count, height, width, _ = stack_NHWC.shape
        out = np.empty((count, spec.channels, height, width), np.complex64 if spec.is_complex else np.float32)
        scale = np.ones((count, 1, 1, 1), np.float32)
        normalise = self.trained.config.data.normalise == "median"
        for i, image in enumerate(stack_NHWC):
            image = image[..., 0] if image.shape[-1] == 1 else image
            transforms.write_image(image, out[i], divisor=INTEGER_MAX.get(str(image.dtype), 1.0))
            if shared is not None:
                scale[i] = float(shared[i])
            elif normalise:
                scale[i] = transforms.typical_magnitude(
                    transforms.as_complex(out[i]) if spec.layout == "ri" else out[i]
                )
            out[i] *= np.float32(1 / scale[i])
        return torch.from_numpy(out), torch.from_numpy(scale)

    def _array(self, restored_NCHW: Tensor, noisy: np.ndarray, spec: FieldSpec) -> np.ndarray:
        """A restored stack in the units, dtype and shape of its noisy array."""
        values = restored_NCHW.numpy()
        if spec.layout == "ri":
            values = (values[:, :1] + 1j * values[:, 1:]).astype(np.complex64)
        if str(noisy.dtype) in INTEGER_MAX:
            top = INTEGER_MAX[str(noisy.dtype)]
            values = np.rint(np.clip(values, 0, 1) * top).astype(noisy.dtype)
        return np.moveaxis(values, 1, -1).reshape(noisy.shape)


def best_device() -> torch.device:
    """The accelerator, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")
