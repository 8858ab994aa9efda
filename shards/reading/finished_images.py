"""Batches that leave the loader finished, for runs whose draws are of version 1 (`configs.fields.DRAWS`).

Phase, normalisation and noise are applied image by image with the numbers that these runs have always had; later
versions leave them to the device (launch/data/finishing.py).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from quell.shards.reading.buffers import BufferPool
from quell.shards.reading.crops import CropReader, Crops, for_each
from quell.shards.reading.draws.geometry import PhiloxUniforms
from quell.shards.reading.pixels import transforms
from quell.shards.reading.recipe import BoundField, Recipe, stream_number


class FinishedImages:
    """Finishes batches image by image.

    Args:
        reader: Of the images.
        buffers: Memory of the batches.
        recipe: What a batch holds.
        seed: Of the noise.
        philox: Its random numbers.
        pool: Threads that work on the images of a batch at the same time; None does it in the caller's.
    """

    def __init__(
        self,
        reader: CropReader,
        buffers: BufferPool,
        recipe: Recipe,
        seed: int,
        philox: PhiloxUniforms,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        self._reader, self._buffers, self._recipe, self._seed = reader, buffers, recipe, seed
        self._philox, self._pool = philox, pool

    def fields(
        self, fields: Sequence[BoundField], crops: Mapping[str, Crops], *, has_phase: bool
    ) -> dict[str, torch.Tensor]:
        """The fields (n, C, H, W), and what each image was divided by, `<field>_scale`, float32 (n, 1, 1, 1)."""
        images: dict[str, torch.Tensor] = {}
        scales: dict[str, np.ndarray] = {}
        for field in fields:
            theta = crops[field.name].theta if has_phase else None
            images[field.name], scales[field.name] = self._field(field, crops[field.name], theta, scales)
        return images | {f"{name}_scale": torch.from_numpy(s.reshape(-1, 1, 1, 1)) for name, s in scales.items()}

    def normals(
        self, batch: Mapping[str, torch.Tensor], epochs: np.ndarray, samples: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """The recipe's standard-normal tensors."""
        drawn = {}
        pairs = list(zip(epochs.tolist(), samples.tolist(), strict=True))
        for name, like in self._recipe.normals.items():
            if like not in batch:
                continue
            margin, shape = self._recipe.margins.get(name, 0), batch[like].shape
            drawn[name] = self._buffers.empty((*shape[:2], shape[2] + margin, shape[3] + margin), batch[like].dtype)
            out_NCHW, stream = drawn[name].numpy(), stream_number(name)

            def fill(i: int, out_NCHW: np.ndarray = out_NCHW, stream: int = stream) -> None:
                transforms.fill_normal(self._philox.generator(self._seed, *pairs[i], stream), out_NCHW[i])

            for_each(self._pool, fill, range(len(pairs)))
        return drawn

    def _field(
        self, field: BoundField, crops: Crops, theta: np.ndarray | None, scales: Mapping[str, np.ndarray]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """The tensor of a field (n, C, H, W), and what each image was divided by, float32 (n,)."""
        count = len(crops.samples)
        has_own_scale = field.scale_of is None and self._recipe.normalise == "median"
        scale = np.ones(count, dtype=np.float32) if field.scale_of is None else scales[field.scale_of].copy()
        is_complex = field.info.dtype.startswith("complex")
        tensor = self._reader.empty(field, crops) if is_complex else self._reader.read(field, crops)
        out_NCHW = tensor.numpy()

        def fill(i: int) -> None:
            if is_complex:
                phase = None if theta is None else float(theta[i])
                transforms.convert_complex(self._reader.image(field, crops, i), out_NCHW[i], phase=phase)
            if has_own_scale:
                is_pair = field.spec.layout == "ri"
                scale[i] = transforms.typical_magnitude(transforms.as_complex(out_NCHW[i]) if is_pair else out_NCHW[i])
            if scale[i] != 1:
                out_NCHW[i] *= np.float32(1 / scale[i])

        if is_complex or has_own_scale or field.scale_of is not None:
            for_each(self._pool, fill, range(count))
        return tensor, scale
