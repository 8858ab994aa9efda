"""Evaluation in batches: every image has the values that it has alone, on arrays, whatever the batch or the memory."""

import logging
import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quell.configs.errors import DataError
from quell.configs.fields import FieldSpec, Needs, Source
from quell.configs.schema import DataConfig, PipelineConfig
from quell.launch.data import loading
from quell.launch.evaluation import evaluator
from quell.launch.evaluation.measuring import batch_metrics, deferred_values, metrics
from quell.launch.evaluation.measuring.deferred_values import DeferredValues, Measured
from quell.launch.evaluation.measuring.host_metrics import measure_images
from quell.launch.evaluation.measuring.host_work import HostImages, HostWork, Job
from quell.launch.evaluation.measuring.stored_images import stored_image
from quell.pipelines.base import Batch, Output, PhaseOutput, Pipeline
from quell.shards.building.writer import write_split
from quell.shards.reading.shard_set import ShardSet

METRICS = metrics.find(["psnr", "ssim", "rmse", "gcmse", "cnr", "msr"])
"""With a batch form, and without one."""


REFERENCES = {"pd_clean": "clean", "pd_second": "second noisy copy", "none": "none"}
"""Field that images are compared with -> what a row says of it."""


class Shrinking(Pipeline[PipelineConfig]):
    """Restores a field as half of itself, and as itself."""

    fits = 1000
    """Images of a batch for which there is enough memory."""

    def __init__(self) -> None:
        super().__init__(PipelineConfig(name="shrinking"), {"pd": FieldSpec(1)})
        self.phases = {}
        self.outputs = {"half": Output("pd", "pd_clean"), "all": Output("pd", "pd_clean", primary=False)}
        self.sizes: list[int] = []

    @classmethod
    def needs(cls, config: PipelineConfig) -> Needs:
        return Needs({"pd": Source(), "pd_clean": Source(scale_of="pd", evaluation=True)})

    def loss(self, phase: str, batch: Batch, carry: dict[str, Tensor]) -> PhaseOutput:
        raise AssertionError("never trained")

    def restore(self, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch["pd"]))
        if self.sizes[-1] > self.fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return {"half": batch["pd"] * 0.5, "all": batch["pd"]}

    def diagnostics(self, batch: Batch, restored: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"brightness": batch["pd"].abs().flatten(1).mean(1).double()}


def batches(kind: str = "real", references: tuple[str, ...] = ("pd_clean",)) -> list[Batch]:
    """Three batches of images of two sizes, each image divided by its own scale."""
    generator, made, index = torch.Generator().manual_seed(0), [], 0
    for count, size in ((3, (40, 44)), (1, (41, 50)), (2, (41, 50))):
        clean = torch.rand((count, 1, *size), generator=generator).cumsum(-1) / 20
        clean = clean.expand(-1, 3, -1, -1) if kind == "colour" else clean
        batch: Batch = {"index": torch.arange(index, index + count), "key": [f"k{index + i}" for i in range(count)]}
        for name in ("pd", *references):
            image = clean + (0 if name == "pd_clean" else 0.1) * torch.randn(clean.shape, generator=generator)
            image = image * torch.exp(torch.tensor(0.7j)) if kind == "complex" else image
            if kind == "parts":
                image = torch.cat([0.6 * image, 0.8 * image], dim=1)
            scale = 0.5 + torch.rand((count, 1, 1, 1), generator=generator)
            batch |= {name: image / scale, f"{name}_scale": scale}
        made.append(batch)
        index += count
    return made


def evaluated(pipeline: Pipeline, made: list[Batch], chosen: dict[str, metrics.Metric] = METRICS) -> evaluator.Rows:
    """The rows of these batches."""
    return evaluator.evaluate_batches(
        pipeline, made, data_range=1.5, device=torch.device("cpu"), autocast=nullcontext, metrics=chosen
    )


@pytest.mark.parametrize("kind", ["real", "colour", "complex", "parts"])
@pytest.mark.parametrize("reference", REFERENCES)
def test_every_image_has_the_values_that_it_has_alone(kind: str, reference: str) -> None:
    references = () if reference == "none" else (reference,)
    made, pipeline = batches(kind, references), Shrinking()
    rows = evaluated(pipeline, made)
    assert pipeline.training, "the pipeline is left as it was"
    assert [(row.index, row.key) for row in rows] == [(i, f"k{i}") for i in range(6)]
    assert [row.size_px for row in rows] == [(40, 44)] * 3 + [(41, 50)] * 3
    assert {row.reference for row in rows} == {
        {"pd_clean": "clean", "pd_second": "second noisy copy"}.get(reference, reference)
    }
    images = [(batch, i) for batch in made for i in range(len(batch["key"]))]
    for row, (batch, i) in zip(rows, images, strict=True):
        scale = batch["pd_scale"][i]
        noisy = stored_image(batch["pd"][i], scale)
        clean = stored_image(batch[reference][i], batch[f"{reference}_scale"][i]) if references else None
        shown = {"half/": 0.5 * noisy, "half/noisy_": noisy, "all/": noisy, "all/noisy_": noisy}
        expected = measure_images(shown, clean, noisy, data_range=1.5, metrics=METRICS)
        expected["brightness"] = float(batch["pd"][i].abs().mean())
        assert row.values == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert len(expected) == 4 * (7 if references else 2) + 1


def test_noisy_images_are_measured_once_if_earlier_values_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    made, earlier = batches(), evaluator.EarlierValues()
    settings = {"data_range": 1.5, "device": torch.device("cpu"), "autocast": nullcontext, "earlier": earlier}
    first = evaluator.evaluate_batches(Shrinking(), made, **settings)  # type: ignore[arg-type]
    assert set(earlier) == {row.key for row in first}
    measured = batch_metrics.measure
    counts: list[int] = []

    def counting(images: Tensor, *others: Any) -> Iterator[Measured]:
        counts.append(len(images))
        return measured(images, *others)

    monkeypatch.setattr(batch_metrics, "measure", counting)
    assert evaluator.evaluate_batches(Shrinking(), made, **settings) == first  # type: ignore[arg-type]
    assert counts == [2, 2, 2], "only what two outputs restored"
    earlier.pop("k5")
    assert evaluator.evaluate_batches(Shrinking(), made, **settings) == first  # type: ignore[arg-type]
    assert counts[3:] == [2, 2, 3]


def test_two_ranks_measure_every_image_once_and_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [image for batch in batches() for image in zip(batch["pd"], batch["pd_clean"], strict=True)]
    samples = [
        {"__key__": f"s{i}", "pd.npy": noisy[0].numpy(), "pd_clean.npy": clean[0].numpy()}
        for i, (noisy, clean) in enumerate(images)
    ]
    write_split(tmp_path / "split", samples, name="sizes", meta={"data_range": 1.5})
    shards, pipeline = ShardSet.open(tmp_path / "split"), Shrinking()
    shares: list[Any] = []
    recipe = loading.evaluation_recipe(Shrinking.needs(pipeline.config), DataConfig(), shards)

    def all_gather(parts: list[object], own: object) -> None:
        shares.append(own)
        parts[:] = [*shares, ([], None)][:2]

    def rows_of(rank: int, world: int) -> evaluator.Rows:
        return evaluator.evaluate_split(
            pipeline,
            shards,
            recipe,
            count=6,
            batch_size=2,
            data_range=1.5,
            rank=rank,
            world=world,
            device=torch.device("cpu"),
            autocast=nullcontext,
            metrics=METRICS,
        )

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    alone = rows_of(0, 1)
    assert [row.index for row in rows_of(0, 2)] == [row.index for row in shares[0][0]] != [0, 1, 2, 3, 4, 5]
    assert rows_of(1, 2) == alone
    assert [row.key for row in alone] == [f"s{i}" for i in range(6)]
    shards.files.close()


def test_a_reference_of_another_shape_is_refused() -> None:
    made = batches()
    made[1]["pd_clean"] = made[1]["pd_clean"][..., 1:]
    with pytest.raises(DataError, match=r"same shape, got \(1, 41, 50\) and \(1, 41, 49\)"):
        evaluated(Shrinking(), made)


def test_a_batch_that_does_not_fit_is_halved_once_and_nothing_else_changes(caplog: pytest.LogCaptureFixture) -> None:
    roomy, tight = Shrinking(), Shrinking()
    tight.fits = 2
    with caplog.at_level(logging.WARNING):
        assert evaluated(tight, batches()) == evaluated(roomy, batches())
    assert tight.sizes == [3, 2, 1, 1, 2]
    (record,) = caplog.records
    assert "3 images do not fit" in record.message and "2 at a time" in record.message
    tight.fits = 1
    with pytest.raises(torch.cuda.OutOfMemoryError):
        evaluated(tight, batches())
    tight.fits = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        evaluated(tight, batches()[1:2])


def test_work_on_single_images_sees_batches_on_the_host_and_its_errors_end_the_evaluation() -> None:
    def brightest(images: HostImages, i: int) -> Job | None:
        if images.batch["key"][i] == "k4":
            return None
        return lambda: {"brightest": float(images.restored["half"][i].max())}

    def failing(images: HostImages, i: int) -> Job:
        def fail() -> dict[str, float]:
            raise DataError(f"no measure of {images.batch['key'][i]}")

        return fail

    made, pipeline = batches(), Shrinking()
    options = {"data_range": 1.0, "device": torch.device("cpu"), "autocast": nullcontext, "metrics": {}}
    rows = evaluator.evaluate_batches(pipeline, made, on_image=brightest, **options)  # type: ignore[arg-type]
    expected = [float(image.max()) * 0.5 for batch in made for image in batch["pd"]]
    assert [row.values.get("brightest") for row in rows] == [*expected[:4], None, expected[5]]
    with pytest.raises(DataError, match="no measure of k0"):
        evaluator.evaluate_batches(pipeline, made, on_image=failing, **options)  # type: ignore[arg-type]


def test_the_host_does_not_take_on_more_than_its_threads_can_do_soon() -> None:
    running: list[int] = []
    values: list[dict[str, float]] = [{} for _ in range(200)]
    most = 0

    def jobs() -> Iterator[Job]:
        for i in range(200):
            yield lambda i=i: running.append(i) or {"i": float(i)}  # type: ignore[misc, func-returns-value]

    with HostWork() as host:
        for job, own in zip(jobs(), values, strict=True):
            host.add(job, own)
            most = max(most, len(host._waiting))
    assert [own["i"] for own in values] == list(range(200)) and sorted(running) == list(range(200))
    assert most <= 4 * torch.get_num_threads()


def test_deferred_values_keep_their_order_and_are_read_before_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred_values, "MOST", 3)
    images: list[dict[str, float]] = [{}, {}]
    deferred = DeferredValues()
    numbers = torch.tensor([[1.0, 4.0], [9.0, 16.0]])
    deferred.add(Measured([("b",), ("a", "e")], numbers, finish=np.sqrt), images)
    assert list(images[0]) == ["b", "a", "e"] and math.isnan(images[0]["b"])
    deferred.add(Measured([("c",)], torch.tensor([[0.1, 0.2]], dtype=torch.float64)), images)
    assert math.isnan(images[1]["c"])
    deferred.add(Measured([("d",)], torch.tensor([[7, 8]])), images)
    assert images == [{"b": 1, "a": 3, "e": 3, "c": 0.1, "d": 7}, {"b": 2, "a": 4, "e": 4, "c": 0.2, "d": 8}]
    deferred.read()
    assert images[1] == {"b": 2, "a": 4, "e": 4, "c": 0.2, "d": 8}
