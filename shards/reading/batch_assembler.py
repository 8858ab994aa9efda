"""Samples -> one batch, filled in place: what happens between the shards and the loader's threads."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from quell.configs.fields import WINDOW
from quell.shards.reading.buffers import BufferPool
from quell.shards.reading.crops import CropReader, Crops
from quell.shards.reading.draws import geometry, splitmix
from quell.shards.reading.draws.geometry import Geometries, PhiloxUniforms
from quell.shards.reading.finished_images import FinishedImages
from quell.shards.reading.recipe import BoundField, Recipe, bind, theta_name
from quell.shards.reading.resized_split import as_shown
from quell.shards.reading.split import Placement, Split
from quell.shards.reading.verification import Verification, Verify

Batch = dict[str, Any]
"""Tensors by name, and `key`, a list of str; see `shards.reading.recipe`."""


class BatchPlan(NamedTuple):
    """What one batch will hold: everything that is decided before an image is read."""

    epochs: np.ndarray
    """Epoch of each sample (n,)."""
    samples: np.ndarray
    """The batch's own samples (n,)."""
    keys: list[str]
    """Their names."""
    crops: dict[str, Crops]
    """Name of a field -> what it shows."""
    windows: np.ndarray | None
    """Where asked for, which window of its stored image each crop is, int64 (n, 7)."""


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
        self.fields = bind(recipe, split, one_size=random_geometry)
        split = as_shown(split, recipe.resize)
        self.split, self.recipe, self.seed = split, recipe, seed
        self.streams = sorted({field.stream for field in self.fields} - {0})
        """The random streams that choose samples for unpaired fields."""
        self._has_geometry = random_geometry and bool(recipe.crop or recipe.flip or recipe.rotate or recipe.phase)
        self._has_phase = random_geometry and recipe.phase
        tensors = len(self.fields) + len(recipe.normals)
        self._buffers = BufferPool(tensors, reuse=random_geometry, pin=pin)  # evaluation meets many shapes
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
        drawn: dict[int, Geometries] = {}
        crops: dict[str, Crops] = {}
        for stream, chosen in {0: samples, **unpaired}.items():
            drawn[stream] = self._geometries(epochs.ravel(), chosen.ravel(), stream)
            fields = [field for field in self.fields if field.stream == stream]
            placed = self.split.place(chosen.ravel(), list(dict.fromkeys(field.member for field in fields)))
            for field in fields:
                self._check_sizes(field, fields[0], chosen.ravel(), placed)
                crops[field.name] = Crops.of(
                    field, chosen.ravel(), placed[field.member], drawn[stream], self.recipe.crop
                )
        windows = self._windows(crops, drawn[0]) if self.recipe.windows else None
        keys = self.split.keys(samples.ravel())
        plans = []
        for i, (begin, end) in enumerate((i * size, (i + 1) * size) for i in range(count)):
            parts = {field.name: crops[field.name].part(begin, end) for field in self.fields}
            of_windows = None if windows is None else windows[begin:end]
            plans.append(BatchPlan(epochs[i], samples[i], keys[begin:end], parts, of_windows))
        return plans

    def assemble(self, plan: BatchPlan) -> Batch:
        """Read the images of a batch. Raises DataError where a sample cannot be used."""
        batch: Batch = {}
        if self._finisher is not None:
            batch |= self._finisher.fields(self.fields, plan.crops, has_phase=self._has_phase)
            batch |= self._finisher.normals(batch, plan.epochs, plan.samples)
        else:
            for field in self.fields:
                batch[field.name] = self._reader.read(field, plan.crops[field.name])
                if self._has_phase and field.spec.layout != "real":
                    theta = plan.crops[field.name].theta.astype(np.float32)
                    batch[theta_name(field)] = self._buffers.copied(theta)
            batch["epoch"] = self._buffers.copied(plan.epochs)
        if plan.windows is not None:
            batch["window"] = self._buffers.copied(plan.windows)
        batch["index"] = self._buffers.copied(plan.samples)
        batch["key"] = plan.keys
        return batch

    def _geometries(self, epochs: np.ndarray, samples: np.ndarray, stream: int) -> Geometries:
        if not self._has_geometry:
            return Geometries.identity(len(samples))
        drawn = geometry.draw(
            self.seed,
            stream,
            epochs,
            samples,
            flip=self.recipe.flip,
            rotate=self.recipe.rotate,
            uniforms=self._uniforms,
        )
        if self.recipe.crop_at == "random":
            return drawn
        middle = np.full(len(samples), 0.5)
        return drawn._replace(top=middle, left=middle)

    def _check_sizes(
        self, field: BoundField, first: BoundField, samples: np.ndarray, placed: Mapping[str, Placement]
    ) -> None:
        """Raise DataError where the images of one sample differ in size."""
        own, expected = placed[field.member], placed[first.member]
        if self.recipe.crop is None:
            sizes = {*zip(own.heights.tolist(), own.widths.tolist(), strict=True)}
            assert len(sizes) <= 1, "whole images of one batch have one size"
        if own is expected:
            return
        differ = (own.heights != expected.heights) | (own.widths != expected.widths)
        for i in np.flatnonzero(differ).tolist():
            size, expected_size = (where.stored(i).plain_shape[:2] for where in (own, expected))
            raise self.split.member_error(
                int(samples[i]),
                field.member,
                own.stored(i),
                f"is {size} but field {first.member} of the same sample is {expected_size}; both must have one size",
            )

    def _windows(self, crops: Mapping[str, Crops], drawn: Geometries) -> np.ndarray:
        """Which window of its stored image each sample shows, int64 (n, 7)."""
        shown = crops[next(field.name for field in self.fields if field.stream == 0)]
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
