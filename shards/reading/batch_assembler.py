"""Samples -> one batch, filled in place: what happens between the shards and the loader's threads."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from configs.fields import WINDOW
from shards.reading.buffers import BufferPool
from shards.reading.crops import CropReader, Crops
from shards.reading.draws import geometry, splitmix
from shards.reading.draws.geometry import Geometries, PhiloxUniforms
from shards.reading.finished_images import FinishedImages
from shards.reading.recipe import BoundField, Recipe, bind, theta_name
from shards.reading.split import Placement, Split
from shards.reading.verification import Verification, Verify

Batch = dict[str, Any]
"""Tensors by name, and `key`, a list of str; see `shards.reading.recipe`."""


class BatchPlan(NamedTuple):
    """What one batch will hold: everything that is decided before an image is read."""

    epochs: np.ndarray
    """Epoch of each sample (n,)."""
    samples: dict[int, np.ndarray]
    """Stream -> the samples (n,) that its fields show; 0 is the stream of the batch's own samples."""
    geometries: dict[int, Geometries]
    """Stream -> how they are cropped and turned."""
    placements: dict[str, Placement]
    """Name of a field -> where its images are."""


class BatchAssembler:
    """Assembles the batches of one recipe from one split; several threads may assemble different batches.

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
        self.streams = sorted({field.stream for field in self.fields} - {0})
        """The random streams that choose samples for unpaired fields."""
        self._has_geometry = random_geometry and bool(recipe.crop or recipe.flip or recipe.rotate or recipe.phase)
        self._has_phase = random_geometry and recipe.phase
        self._buffers = BufferPool(reuse=random_geometry, pin=pin)  # evaluation meets many shapes, training one
        when: Verify = "always" if verify == "first" and split.verify_every_read else verify
        verification = Verification(when, {field.member for field in self.fields}, len(split))
        self._reader = CropReader(split, verification, self._buffers, pool)
        self._finisher: FinishedImages | None = None
        self._uniforms: geometry.Uniforms = splitmix.uniforms
        if recipe.draws == 1:
            self._uniforms = philox = PhiloxUniforms()
            self._finisher = FinishedImages(self._reader, self._buffers, recipe, seed, philox, pool)

    def batch(self, epochs: np.ndarray, samples: np.ndarray, unpaired: Mapping[int, np.ndarray]) -> Batch:
        """Plan and assemble one batch.

        Args:
            epochs: Epoch of each sample (n,), which its random draws depend on.
            samples: The samples (n,).
            unpaired: Stream -> the samples (n,) that its fields show.

        Raises:
            DataError: A sample cannot be used; the message names shard, sample and field.
        """
        (plan,) = self.plans(epochs[None], samples[None], {stream: chosen[None] for stream, chosen in unpaired.items()})
        return self.assemble(plan)

    def plans(self, epochs: np.ndarray, samples: np.ndarray, unpaired: Mapping[int, np.ndarray]) -> list[BatchPlan]:
        """Plan several batches at once, which costs little more than planning one.

        Args:
            epochs: As for `batch`, with one row for each batch, (batches, n).
            samples: The samples (batches, n).
            unpaired: Stream -> samples (batches, n).
        """
        count, size = samples.shape
        by_stream = {0: samples, **unpaired}
        geometries: dict[int, Geometries] = {}
        placements: dict[str, Placement] = {}
        for stream, chosen in by_stream.items():
            geometries[stream] = self._geometries(epochs.ravel(), chosen.ravel(), stream)
            fields = {field.name: field.member for field in self.fields if field.stream == stream}
            placed = self.split.place(chosen.ravel(), list(dict.fromkeys(fields.values())))
            placements |= {name: placed[member] for name, member in fields.items()}
        return [
            BatchPlan(
                epochs[i],
                {stream: chosen[i] for stream, chosen in by_stream.items()},
                {stream: drawn.part(i * size, (i + 1) * size) for stream, drawn in geometries.items()},
                {name: placed.part(i * size, (i + 1) * size) for name, placed in placements.items()},
            )
            for i in range(count)
        ]

    def assemble(self, plan: BatchPlan) -> Batch:
        """Read the images of a batch. Raises DataError where a sample cannot be used."""
        batch: Batch = {}
        crops = {field.name: self._crops(field, plan) for field in self.fields}
        if self._finisher is not None:
            batch |= self._finisher.fields(self.fields, plan.geometries, crops, self._has_phase)
            batch |= self._finisher.normals(batch, plan.epochs, plan.samples[0])
        else:
            for field in self.fields:
                batch[field.name] = self._reader.read(field, crops[field.name])
                if self._has_phase and field.spec.layout != "real":
                    theta = plan.geometries[field.stream].theta.astype(np.float32)
                    batch[theta_name(field)] = self._buffers.copied(theta)
            batch["epoch"] = self._buffers.copied(plan.epochs)
        if self.recipe.windows:
            batch["window"] = self._buffers.copied(self._windows(plan, crops))
        batch["index"] = self._buffers.copied(plan.samples[0])
        batch["key"] = self.split.keys(plan.samples[0])
        return batch

    def _geometries(self, epochs: np.ndarray, samples: np.ndarray, stream: int) -> Geometries:
        if not self._has_geometry:
            return Geometries.identity(len(samples))
        return geometry.draw(
            self.seed,
            stream,
            epochs,
            samples,
            flip=self.recipe.flip,
            rotate=self.recipe.rotate,
            uniforms=self._uniforms,
        )

    def _crops(self, field: BoundField, plan: BatchPlan) -> Crops:
        """What a field shows. Raises DataError where the images of one sample, or of a batch, differ in size."""
        placement, drawn = plan.placements[field.name], plan.geometries[field.stream]
        reference = next(other for other in self.fields if other.stream == field.stream)
        self._check_sizes(field, placement, reference, plan)
        crop = self.recipe.crop
        size = (crop, crop) if crop else (int(placement.heights[0]), int(placement.widths[0]))
        assert crop or ({*placement.heights.tolist()} == {size[0]} and {*placement.widths.tolist()} == {size[1]})
        tops, lefts = drawn.corners(placement.heights, placement.widths, crop)
        return Crops(plan.samples[field.stream], placement, tops, lefts, drawn.turns(), size)

    def _check_sizes(self, field: BoundField, placement: Placement, first: BoundField, plan: BatchPlan) -> None:
        expected = plan.placements[first.name]
        if placement is expected:
            return
        differ = (placement.heights != expected.heights) | (placement.widths != expected.widths)
        for i in np.flatnonzero(differ).tolist():
            size, expected_size = (where.stored(i).plain_shape[:2] for where in (placement, expected))
            raise self.split.member_error(
                int(plan.samples[field.stream][i]),
                field.member,
                placement.stored(i),
                f"is {size} but field {first.member} of the same sample is {expected_size}; both must have one size",
            )

    def _windows(self, plan: BatchPlan, crops: Mapping[str, Crops]) -> np.ndarray:
        """Which window of its stored image each sample of the batch shows, int64 (n, 7)."""
        own = next(field for field in self.fields if field.stream == 0)
        shown, drawn = crops[own.name], plan.geometries[0]
        columns = {
            "top": shown.tops,
            "left": shown.lefts,
            "height": shown.placement.heights,
            "width": shown.placement.widths,
            "mirror_rows": drawn.mirror_rows,
            "mirror_columns": drawn.mirror_columns,
            "quarter_turns": drawn.quarter_turns,
        }
        return np.stack([columns[name].astype(np.int64) for name in WINDOW], axis=1)


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
