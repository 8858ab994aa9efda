"""Arrays as stored -> restored arrays as stored, by a trained run: units, channels and tiles as in training.

Legend: N images, C channels, H height, W width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs import registry
from configs.errors import CheckpointError, ConfigError, DataError
from configs.fields import FieldSpec, Source
from launch import checkpoint, trained
from launch.restoration import tiling
from pipelines.base import Output
from shards import transforms
from shards.dataset import FieldInfo
from shards.recipe import INTEGER_TOP

KINDS = {"float32 grey": ("float32", 1), "complex": ("complex64", 1), "colour": ("float32", 3)}
"""What a run is tried with, for the message, when the user's images do not fit it: (dtype, channels)."""

SMALLEST_PX = 8
"""An image narrower than this is rather a colour image taken for a stack."""


@dataclass(frozen=True)
class Tiles:
    """How large images are cut, in pixels; `batch` tiles are restored together."""

    size: int = 256
    overlap: int = 32
    batch: int = 4


@dataclass(frozen=True)
class _Stand:
    """What images are, in place of the shards a network was trained on."""

    path: Path
    fields: dict[str, FieldInfo]

    def __len__(self) -> int:
        return 1


class Restorer:
    """A trained run that restores arrays of the kind it was opened with."""

    def __init__(self, run: Path, sample: np.ndarray, *, where: str, which: str = "best",
                 tiles: Tiles = Tiles(), device: torch.device | None = None) -> None:  # noqa: B008  (frozen)
        """`sample`: the first image to restore, called `where` in messages; others must be of its kind and channels.

        Raises CheckpointError without a usable checkpoint and DataError when the run was trained on other images.
        """
        self.tiles, self.device = tiles, device or best_device()
        checkpoint.read_meta(checkpoint.choose(run, which))
        self.trained, self.channels = _open(run, sample, where, which, self.device)
        self.pipeline = self.trained.pipeline
        self.outputs: dict[str, Output] = {n: o for n, o in self.pipeline.outputs.items() if o.primary}
        self.fields = list(dict.fromkeys(output.noisy for output in self.pipeline.outputs.values()))
        """The fields that are restored; a method may read more."""

    def restore(self, arrays: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
        """Restored arrays by output name, each with the shape of its noisy field.

        `arrays`: a field's (H, W), (H, W, C), (N, H, W) or (N, H, W, C) array; all fields of one N, H and W. uint8 and
        uint16 come back as they came, rounded and clipped to their range; complex as complex64 (unless the run works on
        magnitudes); everything else as float32, unclipped, in the units it came in.
        """
        stacks = {name: self._stack(array, name, where) for name, array in arrays.items()}
        sizes = {name: stack.shape[:3] for name, stack in stacks.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"{where}: the fields differ in size: "
                            + ", ".join(f"{name} is {size[0]} x {size[1:]}" for name, size in sizes.items()))
        batch: dict[str, Tensor] = {}
        needs = type(self.pipeline).needs(self.trained.config.pipeline)
        for name in sorted(stacks, key=lambda name: needs.fields[name].scale_of is not None):
            shared = batch.get(f"{needs.fields[name].scale_of}_scale")
            batch[name], batch[f"{name}_scale"] = self._tensor(stacks[name], self.pipeline.fields[name], shared)
        batch["index"] = torch.arange(len(batch[name])).reshape(-1, 1, 1, 1)
        with torch.inference_mode():
            restored = tiling.tiled(lambda images: self._run(images, where), batch, tile=self.tiles.size,
                                    overlap=self.tiles.overlap, batch=self.tiles.batch, device=self.device)
        return {name: self._array(restored[name] * batch[f"{output.noisy}_scale"], arrays[output.noisy])
                for name, output in self.outputs.items()}

    def _run(self, images: dict[str, Tensor], where: str) -> dict[str, Tensor]:
        index = images.pop("index").flatten()
        batch: dict[str, Any] = {**images, "index": index, "key": [str(i) for i in index.tolist()]}
        try:
            restored = self.pipeline.restore(batch)
        except KeyError as error:
            needed = type(self.pipeline).needs(self.trained.config.pipeline).fields
            if error.args[0] not in needed:
                raise
            pairs = ",".join(f"{name}=FILE" for name in [*images, error.args[0]] if name in needed)
            raise DataError(f"{where}: this method also reads '{error.args[0]}': give {pairs}") from error
        return {name: value if value.is_complex() else value.float() for name, value in restored.items()
                if name in self.outputs}

    def _stack(self, array: np.ndarray, field: str, where: str) -> np.ndarray:
        """The array as (N, H, W, C), float32, complex64, uint8 or uint16."""
        image_ndim = 2 if self.channels == 1 else 3
        channels = array.shape[-1] if image_ndim == 3 else 1
        if array.ndim not in (image_ndim, image_ndim + 1) or channels != self.channels:
            expected = "(H, W) or (N, H, W)" if self.channels == 1 else f"(H, W, {self.channels}), or stacks of it"
            raise DataError(f"{where}: {field} has shape {array.shape}, but this run reads {expected}")
        stack = array.reshape(-1, *array.shape[-image_ndim:])
        stack = stack[..., None] if image_ndim == 2 else stack
        if min(stack.shape[1:3]) < SMALLEST_PX:
            looks = f" (a colour image of {array.shape[-1]} channels?)" if array.shape[-1] in (2, 3, 4) else ""
            raise DataError(f"{where}: {field} has shape {array.shape}{looks}, but this run reads (H, W) or (N, H, W) "
                            f"with at least {SMALLEST_PX} px a side")
        is_complex = np.iscomplexobj(array)
        spec = self.pipeline.fields[field]
        if kind_of(array, self.trained.config.data.representation, self.channels) != spec:
            raise DataError(f"{where}: {field} is {array.dtype}, but this run was opened for "
                            f"{'real' if is_complex else 'complex'} images")
        if is_complex:
            return stack.astype(np.complex64)
        return stack if str(array.dtype) in INTEGER_TOP else stack.astype(np.float32)

    def _tensor(self, stack_NHWC: np.ndarray, spec: FieldSpec, shared: Tensor | None) -> tuple[Tensor, Tensor]:
        """The field as in a training batch, NCHW, and what it was divided by, (N, 1, 1, 1)."""
        count, height, width, _ = stack_NHWC.shape
        out = np.empty((count, spec.channels, height, width), np.complex64 if spec.complex else np.float32)
        scale = np.ones((count, 1, 1, 1), np.float32)
        normalise = self.trained.config.data.normalise == "median"
        for i, image in enumerate(stack_NHWC):
            grey = image[..., 0] if self.channels == 1 else image
            transforms.put(grey, out[i], divisor=INTEGER_TOP.get(str(grey.dtype), 1.0))
            pair = np.iscomplexobj(grey) and spec.channels == 2
            if shared is not None:
                scale[i] = float(shared[i])
            elif normalise:
                scale[i] = transforms.typical_magnitude(transforms.as_complex(out[i]) if pair else out[i])
            out[i] *= np.float32(1 / scale[i])
        return torch.from_numpy(out), torch.from_numpy(scale)

    def _array(self, restored_NCHW: Tensor, noisy: np.ndarray) -> np.ndarray:
        """A restored stack in the units, dtype and shape of its noisy array."""
        values = restored_NCHW.numpy()
        if np.iscomplexobj(noisy) and values.shape[1] == 2:
            values = (values[:, :1] + 1j * values[:, 1:]).astype(np.complex64)
        if str(noisy.dtype) in INTEGER_TOP:
            top = INTEGER_TOP[str(noisy.dtype)]
            values = np.rint(np.clip(values, 0, 1) * top).astype(noisy.dtype)
        return np.moveaxis(values, 1, -1).reshape(noisy.shape)


def fields_read(run: Path) -> dict[str, str]:
    """The fields a run's method may read when it restores, each with its name in the run's own data."""
    config = trained.folder_of(run).config()
    method: Any = registry.find("pipelines", config.pipeline.name)
    needs = method.needs(config.pipeline)
    members = needs.members(config.data.fields)
    return {name: members[name] for name, source in needs.fields.items()
            if source.draw == "same" and not source.evaluation}


def kind_of(array: np.ndarray, representation: str, channels: int) -> FieldSpec | None:
    """What an array looks like to a network; None when it cannot be read in this representation."""
    is_complex = np.iscomplexobj(array)
    match representation:
        case "complex":
            return FieldSpec(channels, complex=True) if is_complex else None
        case "ri":
            return FieldSpec(2 * channels) if is_complex else None
        case "magnitude":
            return FieldSpec(channels)
        case _:
            return FieldSpec(2 * channels if is_complex else channels)


def best_device() -> torch.device:
    """The accelerator, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def _open(run: Path, sample: np.ndarray, where: str, which: str, device: torch.device) -> tuple[trained.Trained, int]:
    """The run built for images like the sample, and the channels of one image."""
    counts = [1] if sample.ndim == 2 else [sample.shape[-1]] if sample.ndim == 4 else [1, sample.shape[-1]]
    dtype = "complex64" if np.iscomplexobj(sample) else "float32"
    for channels in [count for count in counts if count <= 4]:
        found = _try(run, dtype, channels, which, device)
        if found is not None and kind_of(sample, found.config.data.representation, channels) is not None:
            return found, channels
    fitting = [name for name, (dtype, channels) in KINDS.items() if _try(run, dtype, channels, which, device)]
    if not fitting:
        raise CheckpointError(f"the checkpoint in {run} does not fit the method in its config.yaml, whatever the "
                              "images: train the run again, or denoise with the code of its commit")
    raise DataError(f"{where}: {sample.dtype} of shape {sample.shape} does not fit: {run} was trained on "
                    f"{' or '.join(fitting)} images")


def _try(run: Path, dtype: str, channels: int, which: str, device: torch.device) -> trained.Trained | None:
    """The run built for this kind of image; None when its weights are of another kind."""
    config = trained.folder_of(run).config()
    method: Any = registry.find("pipelines", config.pipeline.name)
    fields: dict[str, Source] = method.needs(config.pipeline).fields
    info = FieldInfo(dtype, None, channels, (SMALLEST_PX, SMALLEST_PX), 1)
    members = {config.data.fields.get(name) or source.member or name
               for name, source in fields.items() if not source.optional}
    stand: Any = _Stand(run, dict.fromkeys(members, info))
    try:
        return trained.load(run, stand, which=which, device=device)
    except (CheckpointError, ConfigError, DataError):
        return None
