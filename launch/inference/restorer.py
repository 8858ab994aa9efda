"""Restore arrays with a trained run, in the units, channels and normalisation of its training.

Legend: N images, C channels, H height, W width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec
from quell.launch.checkpoints.layout import is_shared
from quell.launch.data import finishing
from quell.launch.inference import tiling, trained_model
from quell.launch.inference.noise_comparison import NoiseComparison, NoiseFindings
from quell.launch.machine import out_of_memory
from quell.launch.machine.arithmetic import set_tf32
from quell.launch.machine.devices import take_device
from quell.launch.options.checks import check_whole
from quell.pipelines.base import Batch, Output
from quell.shards.reading.pixels import transforms
from quell.shards.reading.recipe import INTEGER_MAX

MIN_SIDE_PX = 8
"""An array with a shorter side is more likely a colour image taken for a stack than an image."""
TRIED_BELOW_PX = 64
"""The network is tried on an image of the size to come where a side is shorter than this: some networks need more. So
are methods that may read several fields, of which one may be missing."""


class Layout(NamedTuple):
    """An array as a stack of images."""

    images: int
    height: int
    width: int
    channels: int


def as_stack(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The array as (N, H, W, C), float32, complex64, uint8 or uint16."""
    stack = array.reshape(layout)
    if np.iscomplexobj(array):
        return stack.astype(np.complex64)
    return stack if str(array.dtype) in INTEGER_MAX else stack.astype(np.float32)


class HasShape(Protocol):
    """An array, or the description of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy's."""

    @property
    def dtype(self) -> np.dtype:
        """As numpy's."""


@dataclass(frozen=True)
class Tiles:
    """How large images are divided (`tiling.tiled`)."""

    size: int = 256
    """Side in pixels; 0 restores full images."""
    overlap: int = 32
    """Pixels that neighbouring tiles share."""
    batch: int = 4
    """Tiles restored together."""

    def __post_init__(self) -> None:
        """Refuse with ConfigError what cannot divide an image."""
        check_whole("tile", self.size, 0)
        check_whole("overlap", self.overlap, 0)
        check_whole("batch", self.batch, 1)


class Restorer:
    """A trained run that restores arrays of the kind of images it was trained on.

    Attributes:
        model: The run's pipeline, configuration and image kinds.
        input_fields: The fields the method may read, each with its name in the run's own data.
        restored_fields: The noisy fields that are restored; all of them are required.
        outputs: Output name -> which noisy field it restores; the primary outputs only.
        colour: Whether images have more than one stored channel.
        device: Where the pipeline runs.
        trust_code: Whether the model may import classes from outside of Quell.
    """

    def __init__(
        self,
        run: Path,
        *,
        which: str = "best",
        tiles: Tiles = Tiles(),
        device: torch.device | None = None,
        trust_code: bool = False,
    ) -> None:
        """Load a checkpoint of a run.

        Args:
            run: Run folder, or one checkpoint folder inside it.
            which: "best" or "last" checkpoint of the run.
            tiles: How large images are divided.
            device: Where to restore; default the accelerator, or the CPU where there is none.
            trust_code: Whether the configuration of a shared model may import classes from outside of Quell.

        Raises:
            CheckpointError: There is no usable checkpoint.
        """
        self.tiles, self.device = tiles, device or take_device()
        self.trust_code = trust_code
        self.model = trained_model.load(run, which=which, device=self.device, trust_code=trust_code)
        set_tf32(self.model.config.loop, "no")  # files are restored in float32
        self.pipeline = self.model.pipeline
        self.noise = NoiseComparison.of_run(trained_model.folder_of(run), self.pipeline)
        self.is_shared = is_shared(run)
        self.needs = type(self.pipeline).needs(self.model.config.pipeline)
        self.outputs: dict[str, Output] = {
            name: output for name, output in self.pipeline.outputs.items() if output.primary
        }
        members = self.needs.members(self.model.config.data.fields)
        self.input_fields = {
            name: members[name]
            for name, source in self.needs.fields.items()
            if source.draw == "same" and not source.evaluation and name in self.model.images
        }
        self.restored_fields = list(dict.fromkeys(output.noisy for output in self.pipeline.outputs.values()))
        self._tried: set[object] = set()
        self.colour = self.model.images[self.restored_fields[0]].channels > 1

    def check(self, arrays: Mapping[str, HasShape], source: str) -> Layout:
        """Whether arrays of these shapes and dtypes can be restored, before any of them is.

        Args:
            arrays: Field -> array, or anything else that has a shape and a dtype.
            source: What error messages call the arrays.

        Returns:
            The first of them as a stack.

        Raises:
            DataError: As `restore`; or the network cannot restore images of this size.
        """
        layouts = {name: self.layout(array, name, source) for name, array in arrays.items()}
        if len({layout[:3] for layout in layouts.values()}) > 1:
            listed = ", ".join(
                f"'{name}' has {layout.images} of {layout.height} x {layout.width}" for name, layout in layouts.items()
            )
            raise DataError(f"{source}: the fields differ in size: {listed}")
        first = next(iter(layouts.values()))
        sides = [min(side, self.tiles.size or side) for side in first[1:3]]
        if min(sides) >= TRIED_BELOW_PX and len(self.input_fields) == 1:
            return first
        sides = [min(side, TRIED_BELOW_PX) for side in sides]
        kinds = tuple((name, layout.channels, str(arrays[name].dtype)) for name, layout in layouts.items())
        if (*sides, kinds) not in self._tried:
            self._try(
                {name: _ramp((*sides, layouts[name].channels), array.dtype) for name, array in arrays.items()}, source
            )
            self._tried.add((*sides, kinds))
        return first

    def restore(self, arrays: Mapping[str, np.ndarray], source: str, *, first_index: int = 0) -> dict[str, np.ndarray]:
        """Restore one image or one stack of images.

        Args:
            arrays: Field -> array of shape (H, W), (H, W, C), (N, H, W) or (N, H, W, C); N, H and W are the same for
                all fields. Integers are read as fractions of their type's maximum, everything else in stored units.
            source: What error messages call the arrays, such as their file.
            first_index: Number of the first image, where a stack is restored in parts.

        Returns:
            Output name -> restored array in the shape and units of its noisy field. uint8 and uint16 keep their type,
            rounded and clipped to its range; complex images become complex64 (real magnitudes where the run was
            trained on magnitudes); everything else becomes float32 and is not clipped.

        Raises:
            DataError: The arrays are not of the kind the run was trained on, differ in size, or a field is missing.
        """
        stacks = {name: as_stack(array, self.layout(array, name, source)) for name, array in arrays.items()}
        sizes = {name: stack.shape[:3] for name, stack in stacks.items()}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"'{name}' has {n} of {height} x {width}" for name, (n, height, width) in sizes.items())
            raise DataError(f"{source}: the fields differ in size: {listed}")
        batch = self.to_batch(stacks, first_index=first_index)
        with torch.inference_mode():
            # measured on full images: tiles that measured themselves would show seams
            batch |= self.pipeline.image_statistics(batch)
            restored = tiling.tiled(
                lambda tiles: self.restore_tiles(tiles, source),
                batch,
                tile=self.tiles.size,
                overlap=self.tiles.overlap,
                batch=self.tiles.batch,
                device=self.device,
            )
        return {
            name: self.to_array(
                name, restored[name] * batch[f"{output.noisy}_scale"], arrays[output.noisy].dtype
            ).reshape(arrays[output.noisy].shape)
            for name, output in self.outputs.items()
        }

    def compare_noise(self, arrays: Mapping[str, np.ndarray], source: str, names: Sequence[str]) -> NoiseFindings:
        """Compare the noise of images with that of the training.

        Args:
            arrays: As for `restore`, or a part of them.
            source: What messages call the arrays.
            names: What messages add for each image of the stack.
        """
        stacks = {name: as_stack(array, self.layout(array, name, source)) for name, array in arrays.items()}
        return self.noise.findings(self.to_batch(stacks), names)

    def restore_tiles(self, tiles: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        """The primary outputs of one batch of tiles, float32 or complex64."""
        index = tiles.pop("index").flatten()
        batch: Batch = {**tiles, "index": index, "key": [str(i) for i in index.tolist()]}
        try:
            with out_of_memory.explained(self.device, lambda: self._described(tiles)):
                restored = self.pipeline.restore(batch)
        except KeyError as error:
            missing = error.args[0]
            if missing not in self.needs.fields:
                raise
            pairs = ",".join(f"{name}=FILE" for name in [*tiles, missing] if name in self.needs.fields)
            raise DataError(f"{source}: this method also reads '{missing}': give {pairs}") from error
        return {
            name: value if value.is_complex() else value.float()
            for name, value in restored.items()
            if name in self.outputs
        }

    def layout(self, array: HasShape, field: str, source: str) -> Layout:
        """An array as a stack of images. Raises DataError unless it is of the kind the run was trained on."""
        kind = self.model.images[field]
        image_ndim = 2 if kind.channels == 1 else 3
        ndim, is_complex = len(array.shape), np.dtype(array.dtype).kind == "c"
        channels = array.shape[-1] if image_ndim == 3 else 1
        fits = ndim in (image_ndim, image_ndim + 1) and channels == kind.channels
        if self.model.config.data.representation != "magnitude":
            fits = fits and is_complex == kind.is_complex
        if not fits:
            shape = "(H, W)" if image_ndim == 2 else f"(H, W, {kind.channels})"
            stack_shape = "(N, H, W)" if image_ndim == 2 else f"(N, H, W, {kind.channels})"
            raise DataError(
                f"{source}: {field} is {array.dtype} of shape {tuple(array.shape)}, but this run was trained on "
                f"{kind.words} images: expected {shape} or {stack_shape}"
            )
        images = array.shape[0] if ndim > image_ndim else 1
        height, width = array.shape[-image_ndim:][:2]
        if min(height, width) < MIN_SIDE_PX:
            hint = f" (a colour image of {array.shape[-1]} channels?)" if array.shape[-1] in (2, 3, 4) else ""
            raise DataError(
                f"{source}: {field} has shape {tuple(array.shape)}{hint}, but this run reads (H, W) or (N, H, W) "
                f"with sides of at least {MIN_SIDE_PX} px"
            )
        return Layout(images, height, width, channels)

    def to_batch(
        self,
        stacks_NHWC: dict[str, np.ndarray],
        *,
        first_index: int = 0,
        scales: Mapping[str, float] | None = None,
    ) -> dict[str, Tensor]:
        """The fields as in a training batch: NCHW, `<field>_scale` and `index` of shape (N, 1, 1, 1).

        Args:
            stacks_NHWC: Fields as `as_stack` returns them.
            first_index: Number of the first image.
            scales: What the fields are divided by, where these are parts of an image; default: measured.
        """
        batch: dict[str, Tensor] = {}
        # fields with a scale of their own first: the others are divided by theirs
        for name in sorted(stacks_NHWC, key=lambda name: self.needs.fields[name].scale_of is not None):
            shared_scale = batch.get(f"{self.needs.fields[name].scale_of}_scale")
            if scales is not None:
                shared_scale = torch.full((len(stacks_NHWC[name]), 1, 1, 1), scales[name])
            batch[name], batch[f"{name}_scale"] = self._to_tensor(
                stacks_NHWC[name], self.pipeline.fields[name], shared_scale
            )
        batch["index"] = first_index + torch.arange(len(batch[name])).reshape(-1, 1, 1, 1)
        return batch

    def to_array(self, output: str, restored_NCHW: Tensor, dtype: np.dtype) -> np.ndarray:
        """Restored images, or a part of one, in stored units, as (N, H, W, C) in the dtype that its input asks for."""
        values = restored_NCHW.numpy()
        if self.pipeline.fields[self.outputs[output].noisy].layout == "ri":
            values = (values[:, :1] + 1j * values[:, 1:]).astype(np.complex64)
        if str(dtype) in INTEGER_MAX:
            maximum = INTEGER_MAX[str(dtype)]
            values = np.rint(np.clip(values, 0, 1) * maximum).astype(dtype)
        return np.moveaxis(values, 1, -1)

    def _try(self, images_HWC: dict[str, np.ndarray], source: str) -> None:
        """Restore an image of the same size and kind as one to come. Raises DataError where that fails."""
        stacks = {name: as_stack(image, Layout(1, *image.shape)) for name, image in images_HWC.items()}
        with torch.inference_mode():
            batch = self.to_batch(stacks)
            try:
                batch |= self.pipeline.image_statistics(batch)
                self.restore_tiles({name: value.to(self.device) for name, value in batch.items()}, source)
            except (RuntimeError, ValueError, IndexError) as error:
                height, width = next(iter(images_HWC.values())).shape[:2]
                raise DataError(
                    f"{source}: the network of this run cannot restore images of {height} x {width} px "
                    f"({' '.join(str(error).split())}): give larger images, or another --tile"
                ) from error

    def _described(self, tiles: Mapping[str, Tensor]) -> str:
        shape = tuple(tiles[next(name for name in self.restored_fields if name in tiles)].shape)
        return out_of_memory.restoring(shape, self.model.config.pipeline.name)

    def _to_tensor(self, stack_NHWC: np.ndarray, spec: FieldSpec, shared_scale: Tensor | None) -> tuple[Tensor, Tensor]:
        """A normalised field, NCHW, and what it was divided by, (N, 1, 1, 1)."""
        count, height, width, _ = stack_NHWC.shape
        out = np.empty((count, spec.channels, height, width), np.complex64 if spec.is_complex else np.float32)
        transforms.convert(stack_NHWC, out, INTEGER_MAX.get(str(stack_NHWC.dtype), 1.0))
        images_NCHW, scale = torch.from_numpy(out), torch.ones(count, 1, 1, 1)
        if shared_scale is not None:
            scale = shared_scale.clone()
        elif self.model.config.data.normalise == "median":
            scale = finishing.typical_magnitudes(images_NCHW, spec.layout)
        finishing.scale_and_turn_(images_NCHW, spec.layout, scale, None)
        return images_NCHW, scale


def _ramp(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An image of different values, of which neither the median nor the variance is zero."""
    values = np.arange(np.prod(shape)).reshape(shape) % 251 + 1
    return values.astype(dtype) if np.dtype(dtype).kind in "ui" else (values / 251).astype(dtype)
