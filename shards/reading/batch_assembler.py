"""Samples -> one batch, filled in place: the middle between shards and the loader's thread."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch

from shards.reading import transforms
from shards.reading.buffers import Buffers
from shards.reading.recipe import BoundField, Recipe, bind, stream_number
from shards.reading.shard_set import Member, ShardSet
from shards.reading.transforms import IDENTITY, Geometry

Verify = Literal["first", "always", "never"]


class BatchAssembler:
    """Makes batches of one recipe from one split; may be used from one thread at a time."""

    def __init__(
        self,
        shards: ShardSet,
        recipe: Recipe,
        *,
        seed: int,
        verify: Verify = "first",
        pin: bool = False,
        random_geometry: bool = True,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.shards, self.recipe, self.seed = shards, recipe, seed
        self.fields = bind(recipe, shards, one_size=random_geometry)
        self._random_geometry = random_geometry
        # A checksum that was right once says nothing about bytes that are fetched anew at each read.
        self._verify: Verify = "always" if verify == "first" and shards.files.verify_every_read else verify
        self._pool = pool
        self._buffers = Buffers(reuse=random_geometry, pin=pin)  # evaluation meets many shapes, training one
        self._seen = {one.member: np.zeros(len(shards), dtype=bool) for one in self.fields}
        # Integer or real images that go into the batch as they are can be read straight into it.
        still = not (random_geometry and (recipe.flip or recipe.rotate))
        self._straight = {
            one.name for one in self.fields if still and one.info.dtype == "float32" and one.info.channels == 1
        }

    @property
    def streams(self) -> list[int]:
        """The draws of their own that fields follow, besides the batch's samples."""
        return sorted({one.stream for one in self.fields} - {0})

    def expect(self, samples: np.ndarray, others: Iterable[np.ndarray]) -> None:
        """Announce the shards of coming batches, in the order in which their samples are read."""
        together = np.stack([samples, *others], axis=-1).ravel()
        self.shards.files.expect(self.shards.shards_of(together).tolist())

    def batch(self, epochs: np.ndarray, samples: np.ndarray, others: Mapping[int, np.ndarray]) -> dict[str, Any]:
        """One batch of `samples` (n,), whose fields with draws of their own show `others[stream]` (n,)."""
        chosen = {0: samples, **others}
        drawn = {stream: self._geometries(epochs, indices, stream) for stream, indices in chosen.items()}
        batch: dict[str, Any] = {}
        scales: dict[str, np.ndarray] = {}
        sizes: dict[int, tuple[tuple[int, ...], list[Member], str]] = {}
        for one in self.fields:
            members = self.shards.locate(chosen[one.stream], one.member)
            self._same_size(one, chosen[one.stream], members, sizes)
            batch[one.name], scales[one.name] = self._field(one, chosen[one.stream], members, drawn[one.stream], scales)
        for one in self.fields:
            batch[f"{one.name}_scale"] = torch.from_numpy(scales[one.name].reshape(-1, 1, 1, 1))
        for name, like in self.recipe.normals.items():
            if like in batch:
                batch[name] = self._normals(name, batch[like], epochs, samples)
        batch["index"] = torch.from_numpy(np.array(samples, dtype=np.int64))
        batch["key"] = self.shards.keys(samples)
        return batch

    def _geometries(self, epochs: np.ndarray, indices: np.ndarray, stream: int) -> list[Geometry]:
        recipe = self.recipe
        if not self._random_geometry or not (recipe.crop or recipe.flip or recipe.rotate or recipe.phase):
            return [IDENTITY] * len(indices)
        return [
            transforms.draw_geometry(
                transforms.generator(self.seed, epoch, sample, stream), flip=recipe.flip, rotate=recipe.rotate
            )
            for epoch, sample in zip(epochs.tolist(), indices.tolist(), strict=True)
        ]

    def _field(
        self,
        one: BoundField,
        indices: np.ndarray,
        members: list[Member],
        drawn: list[Geometry],
        scales: dict[str, np.ndarray],
    ) -> tuple[torch.Tensor, np.ndarray]:
        """The field's tensor and scales."""
        height, width = (self.recipe.crop,) * 2 if self.recipe.crop else members[0].plain_shape[:2]
        tensor = self._buffers.empty(
            (len(indices), one.spec.channels, height, width), torch.complex64 if one.spec.is_complex else torch.float32
        )
        out_NCHW = tensor.numpy()
        scale = np.ones(len(indices), dtype=np.float32)
        own = one.scale_of is None and self.recipe.normalise == "median"
        if one.scale_of is not None:
            scale = scales[one.scale_of].copy()

        done = self._read_straight(one, indices, members, out_NCHW)

        def fill(i: int) -> None:
            if not done[i]:
                self._image(one, int(indices[i]), members[i], drawn[i], out_NCHW[i])
            if own:
                parts = one.spec.layout == "ri"
                scale[i] = transforms.typical_magnitude(transforms.as_complex(out_NCHW[i]) if parts else out_NCHW[i])
            if scale[i] != 1:
                out_NCHW[i] *= np.float32(1 / scale[i])

        if own or one.scale_of is not None or not all(done):
            self._each(fill, len(indices))
        return tensor, scale

    def _read_straight(
        self, one: BoundField, indices: np.ndarray, members: list[Member], out_NCHW: np.ndarray
    ) -> list[bool]:
        """Read what needs no checking and no converting in one go; says which images that were."""
        if one.name not in self._straight or self._verify == "always":
            return [False] * len(members)
        seen = self._seen[one.member][indices] if self._verify == "first" else np.ones(len(members), dtype=bool)
        size, shape = out_NCHW[0].nbytes, out_NCHW.shape[2:]
        done = [
            bool(known) and member.plain_shape == shape and self.shards.can_read_directly(member, size)
            for known, member in zip(seen.tolist(), members, strict=True)
        ]
        pixels = out_NCHW.reshape(len(members), -1).view(np.uint8)
        chosen = [i for i, quick in enumerate(done) if quick]
        self.shards.files.read_many(
            [(members[i].shard, members[i].offset + members[i].start) for i in chosen], [pixels[i].data for i in chosen]
        )
        return done

    def _each(self, fill: Callable[[int], None], count: int) -> None:
        if self._pool is None:
            for i in range(count):
                fill(i)
        else:
            list(self._pool.map(fill, range(count)))

    def _image(self, one: BoundField, sample: int, member: Member, geometry: Geometry, out_CHW: np.ndarray) -> None:
        """One image of one sample into its place in the batch."""
        verify = self._must_verify(one.member, sample)
        shape = member.plain_shape
        top, left, height, width = transforms.crop_window(shape, self.recipe.crop, geometry)
        if (
            one.name in self._straight
            and (height, width) == shape
            and self.shards.read_into(sample, one.member, member, out_CHW, verify=verify)
        ):
            return
        if verify or height == shape[0]:
            image = self.shards.read_member(sample, one.member, member, verify=verify)[top : top + height]
        else:
            image = self.shards.read_rows(sample, one.member, member, top, height)
        phase = geometry.theta if self.recipe.phase and self._random_geometry else None
        transforms.write_image(
            transforms.apply_orientation(image[:, left : left + width], geometry),
            out_CHW,
            divisor=one.divisor,
            phase=phase,
        )

    def _must_verify(self, member: str, sample: int) -> bool:
        if self._verify != "first":
            return self._verify == "always"
        seen = self._seen[member]
        if seen[sample]:
            return False
        seen[sample] = True
        return True

    def _same_size(
        self,
        one: BoundField,
        indices: np.ndarray,
        members: list[Member],
        sizes: dict[int, tuple[tuple[int, ...], list[Member], str]],
    ) -> None:
        """Refuse fields of one sample that differ in size, and whole images of a batch that do."""
        first, others, name = sizes.setdefault(one.stream, (members[0].plain_shape[:2], members, one.member))
        if one.info.shape is not None and others is members:
            return
        for sample, member, beside in zip(indices.tolist(), members, others, strict=True):
            if member.plain_shape[:2] != beside.plain_shape[:2]:
                raise self.shards.fault(
                    sample,
                    member,
                    one.member,
                    f"is {member.plain_shape[:2]} but field {name} of "
                    f"the same sample is {beside.plain_shape[:2]}; both must have one size",
                )
            assert self.recipe.crop or member.plain_shape[:2] == first

    def _normals(self, name: str, like: torch.Tensor, epochs: np.ndarray, samples: np.ndarray) -> torch.Tensor:
        tensor = self._buffers.empty(tuple(like.shape), like.dtype)
        out_NCHW, stream = tensor.numpy(), stream_number(name)
        pairs: Sequence[tuple[int, int]] = list(zip(epochs.tolist(), samples.tolist(), strict=True))

        def fill(i: int) -> None:
            transforms.fill_normal(transforms.generator(self.seed, *pairs[i], stream), out_NCHW[i])

        self._each(fill, len(pairs))
        return tensor


def same_sized_runs(shards: ShardSet, samples: np.ndarray, member: str, size: int) -> list[np.ndarray]:
    """The samples cut into runs of at most `size` neighbours whose images have one shape."""
    runs: list[list[int]] = []
    last: tuple[int, ...] = ()
    for sample, row in zip(samples.tolist(), shards.locate(samples, member) if len(samples) else [], strict=True):
        shape = row.plain_shape[:2]
        if runs and shape == last and len(runs[-1]) < size:
            runs[-1].append(sample)
        else:
            runs.append([sample])
        last = shape
    return [np.array(run, dtype=np.int64) for run in runs]
