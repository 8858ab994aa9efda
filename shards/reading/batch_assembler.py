"""Samples -> one batch, filled in place: what happens between the shards and the loader's thread."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from configs.fields import WINDOW
from shards.reading import transforms
from shards.reading.buffers import BufferPool
from shards.reading.recipe import BoundField, Recipe, bind, stream_number, theta_name
from shards.reading.split import Split, StoredMember
from shards.reading.transforms import IDENTITY, Geometry

Verify = Literal["first", "always", "never"]
"""When a member is verified (checksum, NaN, Inf): at a loader's first read of it, at every read, or never."""

Batch = dict[str, Any]
"""Tensors by name, and `key`, a list of str; see `shards.reading.recipe`."""


class _Reference(NamedTuple):
    """The first field that shows a stream's samples; the others must have the same sizes."""

    member: str
    stored: list[StoredMember]


class BatchAssembler:
    """Assembles the batches of one recipe from one split; to be used from one thread at a time.

    Args:
        split: Where the samples come from.
        recipe: What a batch holds.
        seed: Of augmentation and noise draws.
        verify: When checksums are compared, and NaN and Inf refused.
        pin: Whether the batches are in page-locked memory, from which copies to a GPU are asynchronous.
        random_geometry: False for evaluation: no crop, no augmentation, and images may differ in size between batches.
        pool: Threads that read and decode the images of a batch at the same time; None does it in the caller's.
    """

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        *,
        seed: int,
        verify: Verify = "first",
        pin: bool = False,
        random_geometry: bool = True,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.split, self.recipe, self.seed = split, recipe, seed
        self.fields = bind(recipe, split, one_size=random_geometry)
        self._finishes = recipe.draws == 1
        """Whether batches leave with phase, scales and noise, which otherwise are the device's work."""
        self._random_geometry = random_geometry
        self._verify: Verify = "always" if verify == "first" and split.verify_every_read else verify
        self._pool = pool
        self._buffers = BufferPool(reuse=random_geometry, pin=pin)  # evaluation meets many shapes, training one
        self._verified = {field.member: np.zeros(len(split), dtype=bool) for field in self.fields}
        # Real images that go into the batch unchanged can be read from disk straight into it.
        is_reoriented = random_geometry and (recipe.flip or recipe.rotate)
        self._direct_fields = {
            field.name
            for field in self.fields
            if not is_reoriented and field.info.dtype == "float32" and field.info.channels == 1
        }

    @property
    def streams(self) -> list[int]:
        """The random streams that choose samples for unpaired fields."""
        return sorted({field.stream for field in self.fields} - {0})

    def batch(self, epochs: np.ndarray, samples: np.ndarray, unpaired: Mapping[int, np.ndarray]) -> Batch:
        """Assemble one batch.

        Args:
            epochs: Epoch of each sample (n,), which its random draws depend on.
            samples: The samples (n,).
            unpaired: Stream -> the samples (n,) that its fields show.

        Raises:
            DataError: A sample cannot be used; the message names shard, sample and field.
        """
        by_stream = {0: samples, **unpaired}
        geometries = {stream: self._geometries(epochs, chosen, stream) for stream, chosen in by_stream.items()}
        batch: Batch = {}
        scales: dict[str, np.ndarray] = {}
        references: dict[int, _Reference] = {}
        for field in self.fields:
            chosen = by_stream[field.stream]
            stored = self.split.locate(chosen, field.member)
            self._check_sizes(field, chosen, stored, references)
            batch[field.name], scales[field.name] = self._field(field, chosen, stored, geometries[field.stream], scales)
        if self._finishes:
            for field in self.fields:
                batch[f"{field.name}_scale"] = torch.from_numpy(scales[field.name].reshape(-1, 1, 1, 1))
            for name, like in self.recipe.normals.items():
                if like in batch:
                    batch[name] = self._normals(name, batch[like], epochs, samples)
        else:
            batch["epoch"] = torch.from_numpy(np.array(epochs, dtype=np.int64))
            if self.recipe.phase and self._random_geometry:
                for field in (field for field in self.fields if field.spec.layout != "real"):
                    batch[theta_name(field)] = torch.tensor([one.theta for one in geometries[field.stream]])
        if self.recipe.windows:
            batch["window"] = torch.from_numpy(self._windows(samples, geometries[0]))
        batch["index"] = torch.from_numpy(np.array(samples, dtype=np.int64))
        batch["key"] = self.split.keys(samples)
        return batch

    def _geometries(self, epochs: np.ndarray, samples: np.ndarray, stream: int) -> list[Geometry]:
        recipe = self.recipe
        if not self._random_geometry or not (recipe.crop or recipe.flip or recipe.rotate or recipe.phase):
            return [IDENTITY] * len(samples)
        return [
            transforms.draw_geometry(
                transforms.generator(self.seed, epoch, sample, stream), flip=recipe.flip, rotate=recipe.rotate
            )
            for epoch, sample in zip(epochs.tolist(), samples.tolist(), strict=True)
        ]

    def _field(
        self,
        field: BoundField,
        samples: np.ndarray,
        stored: list[StoredMember],
        geometries: list[Geometry],
        scales: dict[str, np.ndarray],
    ) -> tuple[torch.Tensor, np.ndarray]:
        """The tensor of a field (n, C, H, W), and what each image was divided by, float32 (n,)."""
        height, width = (self.recipe.crop,) * 2 if self.recipe.crop else stored[0].plain_shape[:2]
        tensor = self._buffers.empty(
            (len(samples), field.spec.channels, height, width),
            torch.complex64 if field.spec.is_complex else torch.float32,
        )
        out_NCHW = tensor.numpy()
        has_own_scale = self._finishes and field.scale_of is None and self.recipe.normalise == "median"
        shared = scales[field.scale_of] if self._finishes and field.scale_of is not None else None
        scale = np.ones(len(samples), dtype=np.float32) if shared is None else shared.copy()
        is_complete = self._read_directly(field, samples, stored, out_NCHW)

        def fill(i: int) -> None:
            if not is_complete[i]:
                self._image(field, int(samples[i]), stored[i], geometries[i], out_NCHW[i])
            if has_own_scale:
                is_pair = field.spec.layout == "ri"
                scale[i] = transforms.typical_magnitude(transforms.as_complex(out_NCHW[i]) if is_pair else out_NCHW[i])
            if scale[i] != 1:
                out_NCHW[i] *= np.float32(1 / scale[i])

        if has_own_scale or shared is not None or not all(is_complete):
            self._for_each(fill, len(samples))
        return tensor, scale

    def _read_directly(
        self, field: BoundField, samples: np.ndarray, stored: list[StoredMember], out_NCHW: np.ndarray
    ) -> list[bool]:
        """Read all images at once that need neither verifying nor converting; returns which those were."""
        is_complete = [False] * len(stored)
        if field.name not in self._direct_fields or self._verify == "always":
            return is_complete
        is_verified = self._verified[field.member][samples] if self._verify == "first" else [True] * len(stored)
        candidates = [
            i for i, member in enumerate(stored) if is_verified[i] and member.plain_shape == out_NCHW.shape[2:]
        ]
        pixels = out_NCHW.reshape(len(stored), -1).view(np.uint8)
        was_read = self.split.read_many_into([stored[i] for i in candidates], [pixels[i].data for i in candidates])
        for i, is_read in zip(candidates, was_read, strict=True):
            is_complete[i] = is_read
        return is_complete

    def _for_each(self, fill: Callable[[int], None], count: int) -> None:
        if self._pool is None:
            for i in range(count):
                fill(i)
        else:
            list(self._pool.map(fill, range(count)))  # the list raises what a thread raised

    def _image(
        self, field: BoundField, sample: int, member: StoredMember, geometry: Geometry, out_CHW: np.ndarray
    ) -> None:
        """Read one image into its place in the batch."""
        verify = self._must_verify(field.member, sample)
        shape = member.plain_shape
        top, left, height, width = transforms.crop_window(shape, self.recipe.crop, geometry)
        if (
            field.name in self._direct_fields
            and (height, width) == shape
            and self.split.read_into(sample, field.member, member, out_CHW, verify=verify)
        ):
            return
        if verify or height == shape[0]:  # the checksum is that of the whole member
            image = self.split.read_member(sample, field.member, member, verify=verify)[top : top + height]
        else:
            image = self.split.read_rows(sample, field.member, member, top, height)
        phase = geometry.theta if self._finishes and self.recipe.phase and self._random_geometry else None
        image = transforms.apply_orientation(image[:, left : left + width], geometry)
        transforms.write_image(image, out_CHW, divisor=field.divisor, phase=phase)

    def _must_verify(self, member: str, sample: int) -> bool:
        if self._verify != "first":
            return self._verify == "always"
        verified = self._verified[member]
        if verified[sample]:
            return False
        verified[sample] = True
        return True

    def _check_sizes(
        self, field: BoundField, samples: np.ndarray, stored: list[StoredMember], references: dict[int, _Reference]
    ) -> None:
        """Raise DataError where the fields of one sample differ in size."""
        reference = references.setdefault(field.stream, _Reference(field.member, stored))
        if field.info.shape is not None and reference.stored is stored:
            return
        first = reference.stored[0].plain_shape[:2]
        for sample, member, expected in zip(samples.tolist(), stored, reference.stored, strict=True):
            size, expected_size = member.plain_shape[:2], expected.plain_shape[:2]
            if size != expected_size:
                raise self.split.member_error(
                    sample,
                    field.member,
                    member,
                    f"is {size} but field {reference.member} of the same sample is {expected_size}; both must have "
                    "one size",
                )
            assert self.recipe.crop or size == first

    def _normals(self, name: str, like: torch.Tensor, epochs: np.ndarray, samples: np.ndarray) -> torch.Tensor:
        margin = self.recipe.margins.get(name, 0)
        height, width = (size + margin for size in like.shape[2:])
        tensor = self._buffers.empty((*like.shape[:2], height, width), like.dtype)
        out_NCHW, stream = tensor.numpy(), stream_number(name)
        pairs: Sequence[tuple[int, int]] = list(zip(epochs.tolist(), samples.tolist(), strict=True))

        def fill(i: int) -> None:
            transforms.fill_normal(transforms.generator(self.seed, *pairs[i], stream), out_NCHW[i])

        self._for_each(fill, len(pairs))
        return tensor

    def _windows(self, samples: np.ndarray, geometries: list[Geometry]) -> np.ndarray:
        """Which window of its stored image each sample of the batch shows, int64 (n, 7)."""
        own = next(field for field in self.fields if field.stream == 0)
        windows = []
        for member, geometry in zip(self.split.locate(samples, own.member), geometries, strict=True):
            shape = member.plain_shape
            top, left, _, _ = transforms.crop_window(shape, self.recipe.crop, geometry)
            orientation = (geometry.mirror_rows, geometry.mirror_columns, geometry.quarter_turns)
            windows.append([top, left, *shape[:2], *map(int, orientation)])
        return np.array(windows, dtype=np.int64).reshape(-1, len(WINDOW))


def same_sized_runs(split: Split, samples: np.ndarray, field: str, size: int) -> list[np.ndarray]:
    """Samples (n,) in runs of at most `size` neighbours whose images have one height and width."""
    runs: list[list[int]] = []
    last: tuple[int, ...] = ()
    for sample, member in zip(samples.tolist(), split.locate(samples, field) if len(samples) else [], strict=True):
        shape = member.plain_shape[:2]
        if runs and shape == last and len(runs[-1]) < size:
            runs[-1].append(sample)
        else:
            runs.append([sample])
        last = shape
    return [np.array(run, dtype=np.int64) for run in runs]
