"""Batches: exact, independent of the processes and of the step a run is opened at; errors of one sentence; no leaks."""

import io
import os
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs.errors import ConfigError, DataError
from quell.configs.fields import FieldSpec, Source
from quell.shards.building.writer import write_split
from quell.shards.reading import recipe as recipes
from quell.shards.reading.buffers import KEPT_BATCHES, BufferPool
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder, samples_of_rank
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

Open = Callable[..., ShardSet]
PAIR = {"pd": Source(), "pdfs": Source()}
FULL = Recipe(
    {**PAIR, "clean": Source("pd_clean", scale_of="pd"), "unrelated": Source("pd", draw="unpaired")},
    {"noise": "pd"},
    crop=16,
    flip=True,
    rotate=True,
    phase=True,
    normalise="median",
)


def running_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("quell")]


def flatten(steps: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """The samples of all batches, concatenated field by field."""
    batches = [batch for step in steps for batch in step]
    return {
        name: [key for batch in batches for key in batch[name]]
        if name == "key"
        else torch.cat([batch[name] for batch in batches])
        for name in batches[0]
    }


def assert_same(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        assert value == expected[name] if name == "key" else torch.equal(value, expected[name]), name


@pytest.mark.parametrize("kind", ["real", "complex", "uint8"])
def test_batches_do_not_depend_on_world_accumulation_threads_or_opening(split: Open, kind: str) -> None:
    shards = split(11, kind=kind)

    def run(world: int, accumulate: int, start: int, steps: int, threads: int = 1) -> dict[str, Any]:
        loaders = [
            Loader(
                shards,
                SampleOrder(11, 8, 3, rank, world, accumulate),
                FULL,
                start_step=start,
                steps=steps,
                threads=threads,
            )
            for rank in range(world)
        ]
        per_rank = [list(loader) for loader in loaders]
        for loader in loaders:
            loader.close()
        return flatten(
            [
                [batch for micro in range(accumulate) for batch in (rank[step][micro] for rank in per_rank)]
                for step in range(steps)
            ]
        )

    reference = run(1, 1, 0, 6)
    assert sorted(reference["index"][:11].tolist()) == sorted(reference["index"][11:22].tolist()) == list(range(11))
    assert_same(reference, run(2, 1, 0, 6))
    assert_same(reference, run(4, 2, 0, 6))
    assert_same(reference, run(1, 4, 0, 6, threads=3))
    assert_same({name: value[24:] for name, value in reference.items()}, run(2, 2, 3, 3))


def test_fields_of_a_sample_share_geometry_and_phase_unless_unpaired(split: Open) -> None:
    shards = split(8, shape=(24, 24), kind="complex")
    recipe = Recipe(
        {
            "pd": Source(),
            "again": Source("pd"),
            "unrelated": Source("pd", draw="unpaired"),
            "third": Source("pdfs", draw="unpaired", scale_of="unrelated"),
        },
        crop=16,
        flip=True,
        rotate=True,
        phase=True,
        representation="complex",
    )
    with Loader(shards, SampleOrder(8, 4, 0), recipe, steps=8) as loader:
        batches = flatten(list(loader))
    assert torch.equal(batches["pd"], batches["again"]) and batches["pd"].dtype == torch.complex64
    assert not any(torch.equal(a, b) for a, b in zip(batches["pd"].abs(), batches["unrelated"].abs(), strict=True))
    # `third` shares the scale of `unrelated` and so its sample, crop and phase: their pixels belong together.
    for unrelated, third in zip(batches["unrelated"], batches["third"], strict=True):
        matches = [
            i for i in range(8) if np.isclose(np.abs(shards.read(i, "pd")), unrelated[0, 3, 3].abs(), atol=1e-6).any()
        ]
        partner = [np.isclose(np.abs(shards.read(i, "pdfs")), third[0, 3, 3].abs(), atol=1e-6).any() for i in matches]
        assert any(partner)


def test_full_images_equal_the_stored_ones(split: Open) -> None:
    shards = split(6)
    with Loader(shards, SampleOrder(6, 2, 0), Recipe(PAIR), steps=6) as loader:
        for (batch,) in loader:
            for row, index in enumerate(batch["index"].tolist()):
                assert np.array_equal(batch["pd"][row, 0], shards.read(index, "pd"))
                assert np.array_equal(batch["pdfs"][row, 0], shards.read(index, "pdfs"))
                assert batch["key"][row] == shards.key(index)


def test_median_normalisation_and_shared_scale(split: Open) -> None:
    shards = split(6)
    recipe = Recipe({"pd": Source(), "clean": Source("pd_clean", scale_of="pd")}, normalise="median", draws=1)
    with Loader(shards, SampleOrder(6, 6, 0), recipe, steps=1) as loader:
        ((batch,),) = loader
    assert batch["pd_scale"].shape == (6, 1, 1, 1) and torch.equal(batch["pd_scale"], batch["clean_scale"])
    assert torch.allclose(batch["pd"].flatten(1).abs().median(1).values, torch.ones(6))
    for row, index in enumerate(batch["index"].tolist()):
        stored = batch["clean"][row, 0] * batch["clean_scale"][row, 0]
        assert np.allclose(stored, shards.read(index, "pd_clean"), rtol=1e-6)


def test_representations(split: Open) -> None:
    shards = split(4, kind="complex")
    for name, spec in {
        "auto": FieldSpec(2, "ri"),
        "ri": FieldSpec(2, "ri"),
        "complex": FieldSpec(1, "complex"),
        "magnitude": FieldSpec(1),
    }.items():
        recipe = Recipe(PAIR, normalise="median", representation=name, draws=1)  # type: ignore[arg-type]
        assert recipes.specs(recipe, shards) == {"pd": spec, "pdfs": spec}
        with Loader(shards, SampleOrder(4, 4, 0), recipe, steps=1) as loader:
            ((batch,),) = loader
        assert batch["pd"].shape[1] == spec.channels and batch["pd"].is_complex() == spec.is_complex
        image = shards.read(int(batch["index"][0]), "pd")
        assert batch["pd_scale"][0].item() == pytest.approx(np.sort(np.abs(image), None)[(image.size - 1) // 2])


def test_normals_change_with_epoch_and_sample_only(split: Open) -> None:
    shards = split(4)
    recipe = Recipe(PAIR, {"n": "pd", "m": "pd"}, crop=16, draws=1)
    with Loader(shards, SampleOrder(4, 4, 0), recipe, steps=2) as loader:
        (first,), (second,) = loader
    assert first["n"].shape == (4, 1, 16, 16)
    draws = [*first["n"], *first["m"], *second["n"]]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_memory_is_reused_only_when_no_tensor_refers_to_it(split: Open) -> None:
    """Views, detached tensors and flattened ones all keep the memory of a batch from being overwritten."""
    shards = split(8)
    with Loader(shards, SampleOrder(8, 2, 0), Recipe(PAIR), steps=40, prefetch=2) as loader:
        kept, addresses = [], []
        for number, (batch,) in enumerate(loader):
            addresses.append(batch["pd"].data_ptr())
            if number % 5 == 0:
                view = {0: batch["pd"][1:, :, 3:], 1: batch["pd"].detach(), 2: batch["pd"].flatten()}[number // 5 % 3]
                kept.append((view, view.clone()))
            del batch
    assert all(torch.equal(view, copy) for view, copy in kept)
    assert len(set(addresses)) < 20  # 8 kept, a few in flight, the others reuse memory


def test_memory_of_batches_of_many_fields_is_kept() -> None:
    pool = BufferPool(12, reuse=True, pin=False)
    held = [pool.empty((2, 1, 4, 4), torch.float32) for _ in range(12 * 6)]
    addresses = {tensor.data_ptr() for tensor in held}
    (kept,) = pool._arrays.values()
    assert len(kept) == len(addresses) == 12 * 6
    del held
    again = [pool.empty((2, 1, 4, 4), torch.float32) for _ in range(12 * 6)]
    assert {tensor.data_ptr() for tensor in again} == addresses and len(kept) == 12 * 6
    more = [pool.empty((2, 1, 4, 4), torch.float32) for _ in range(12 * 6)]
    assert len(kept) == 12 * KEPT_BATCHES and len({tensor.data_ptr() for tensor in again + more}) == 2 * 12 * 6


def test_optional_fields_are_left_out(split: Open) -> None:
    shards = split(4)
    recipe = Recipe({"pd": Source(), "mask": Source(optional=True)}, {"n": "mask"})
    for draws, more in ((1, "pd_scale"), (2, "epoch")):
        with Loader(shards, SampleOrder(4, 2, 0), replace(recipe, draws=draws), steps=1) as loader:
            ((batch,),) = loader
        assert set(batch) == {"pd", "index", "key", more}


def test_evaluation_shows_every_full_image_once(tmp_path: Path) -> None:
    shapes = [(8, 9), (8, 9), (8, 9), (10, 9), (8, 9), (8, 9)]
    write_split(
        tmp_path / "val",
        [{"__key__": f"k{i}", "x.npy": np.full(shape, i, np.float32)} for i, shape in enumerate(shapes)],
        name="v",
        meta={},
    )
    shards = ShardSet.open(tmp_path / "val")
    recipe = Recipe({"x": Source(), "y": Source("x", draw="unpaired")}, {"n": "x"}, crop=64, flip=True)
    seen: list[int] = []
    for rank in range(2):
        with EvalLoader(shards, samples_of_rank(6, rank, 2), recipe, 2) as loader:
            batches = list(loader)
            assert len(batches) == len(loader)
        for batch in batches:
            seen += batch["index"].tolist()
            for row, index in enumerate(batch["index"].tolist()):
                assert batch["x"][row, 0].shape == shapes[index] and (batch["x"][row] == index).all()
                assert torch.equal(batch["x"], batch["y"])
    assert seen == list(range(6))
    with EvalLoader(shards, np.arange(0), recipe, 2) as loader:
        assert list(loader) == []


def test_unsuitable_recipes_are_refused_before_anything_is_read(split: Open, tmp_path: Path) -> None:
    shards = split(6)

    def refused(error: type[Exception], message: str, data: ShardSet = shards, **settings: Any) -> None:
        with pytest.raises(error, match=message):
            Loader(data, SampleOrder(len(data), 2, 0), Recipe(**{"fields": PAIR, **settings}))

    refused(
        DataError,
        r"needs noisy, clean \(member truth\), these shards hold pd, pd_clean, pdfs",
        fields={"noisy": Source(), "clean": Source("truth")},
    )
    refused(DataError, r"data.crop 64 is larger than the smallest image of field pd \(20 x 24\)", crop=64)
    refused(ConfigError, "has no imaginary part", representation="ri")
    refused(ConfigError, "has no imaginary part", representation="complex")
    refused(ConfigError, "set data.crop, or data.rotate=false", rotate=True)
    refused(ConfigError, "scale_of nothing", fields={"pd": Source(scale_of="nothing")})
    refused(ConfigError, "no field q", normals={"n": "q"})
    refused(ConfigError, "same name", normals={"pd": "pd"})
    shapes: dict[str, list[tuple[int, ...]]] = {"sizes": [(8, 8), (9, 8)], "channels": [(8, 8), (8, 8, 3)]}
    for name, images in shapes.items():
        write_split(
            tmp_path / name,
            [{"__key__": f"k{i}", "x.npy": np.ones(shape, np.float32)} for i, shape in enumerate(images)],
            name="v",
            meta={},
        )
    only = {"x": Source()}
    refused(DataError, "differ in size.*set data.crop to 8", ShardSet.open(tmp_path / "sizes"), fields=only)
    refused(DataError, "mixed: sample k1 has 3 channel", ShardSet.open(tmp_path / "channels"), fields=only, crop=4)
    write_split(
        tmp_path / "holes",
        [
            {"__key__": "a", "x.npy": np.ones((4, 4)), "y.npy": np.ones((4, 4))},
            {"__key__": "b", "y.npy": np.ones((4, 4))},
        ],
        name="v",
        meta={},
    )
    refused(DataError, "1 of 2 samples lack field x, the first is b", ShardSet.open(tmp_path / "holes"), fields=only)
    assert running_threads() == []


def test_fields_of_different_sizes_are_refused(tmp_path: Path) -> None:
    pair = {"x": Source(), "y": Source()}
    write_split(
        tmp_path / "a",
        [{"__key__": f"k{i}", "x.npy": np.ones((8, 8)), "y.npy": np.ones((8, 7))} for i in range(2)],
        name="v",
        meta={},
    )
    with pytest.raises(DataError, match="differ in size"):
        Loader(ShardSet.open(tmp_path / "a"), SampleOrder(2, 2, 0), Recipe(pair))
    write_split(
        tmp_path / "b",
        [{"__key__": f"k{i}", "x.npy": np.ones((8, 8)), "y.npy": np.ones((8, 8 - i))} for i in range(2)],
        name="v",
        meta={},
    )
    with (
        Loader(ShardSet.open(tmp_path / "b"), SampleOrder(2, 2, 0), Recipe(pair, crop=4)) as loader,
        pytest.raises(DataError, match=r"v-000000.tar: sample k1: field y is \(8, 7\) but field x"),
    ):
        next(iter(loader))


@pytest.mark.parametrize("when", ["first", "always"])
def test_errors_are_raised_in_the_consumer_and_the_thread_ends(tmp_path: Path, when: str) -> None:
    file = io.BytesIO()
    np.save(file, np.full((8, 8), np.nan, "f4"))
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        info = tarfile.TarInfo("k0.x.npy")
        info.size = file.tell()
        file.seek(0)
        tar.addfile(info, file)
    loader = Loader(ShardSet.open(tmp_path), SampleOrder(1, 1, 0), Recipe({"x": Source()}), verify=when)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="bad.tar: sample k0: field x contains NaN or Inf"):
        next(iter(loader))
    assert running_threads() == []
    loader.close()


def test_checksums_are_compared_as_verify_says(split: Open) -> None:
    shards = split(3)
    recipe, plan = Recipe(PAIR, crop=16), SampleOrder(3, 3, 0)
    with Loader(shards, plan, recipe, steps=3) as loader:
        list(loader)
    # Another checksum in the table has the effect of a flipped bit in the member.
    shards._table = np.array(shards._table)
    shards._table["pd"]["crc"][1] ^= 1
    for verify, fails in (("never", False), ("first", True), ("always", True)):
        with Loader(shards, plan, recipe, steps=2, verify=verify) as loader:  # type: ignore[arg-type]
            if fails:
                with pytest.raises(DataError, match="sample s0001: field pd is damaged"):
                    list(loader)
            else:
                list(loader)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_early_leaves_nothing_behind(split: Open, taken: int) -> None:
    shards = split(8, kind="uint8")
    files = len(os.listdir("/proc/self/fd"))
    with Loader(shards, SampleOrder(8, 2, 0, accumulate=2), Recipe(PAIR, crop=8), prefetch=3, threads=3) as loader:
        for _, _step in zip(range(taken), loader, strict=False):
            pass
    assert running_threads() == []
    loader.close()
    shards.files.close()
    assert len(os.listdir("/proc/self/fd")) <= files
    assert list(loader) == []


def test_an_error_in_the_consumer_closes_the_loader(split: Open) -> None:
    with pytest.raises(KeyError), Loader(split(8), SampleOrder(8, 2, 0), Recipe(PAIR)) as loader:
        for _ in loader:
            raise KeyError("from the training step")
    assert running_threads() == []


def test_waiting_is_timed_and_batches_are_assembled_ahead(split: Open) -> None:
    shards = split(8)
    with Loader(shards, SampleOrder(8, 2, 0), Recipe(PAIR), steps=3, prefetch=3) as loader:
        iterator = iter(loader)
        next(iterator)
        assert loader.wait_s > 0
        while loader._prefetcher.waiting < 2:  # two batches, before they are requested
            time.sleep(0.001)
        assert len(list(iterator)) == 2
        assert list(iterator) == []


def test_a_batch_says_which_window_each_crop_shows_without_changing_the_crops(split: Open) -> None:
    shards = split(8, shape=(24, 30))
    plain = Recipe({"pd": Source()}, {"noise": "pd"}, crop=16, flip=True, rotate=True, draws=1)
    asking = replace(plain, margins={"noise": 5}, windows=True)
    plan = SampleOrder(8, 4, 0)
    with Loader(shards, plan, plain, steps=4) as loader:
        expected = flatten(list(loader))
    with Loader(shards, plan, asking, steps=4) as loader:
        batches = flatten(list(loader))
    assert torch.equal(batches["pd"], expected["pd"])
    assert batches["noise"].shape == (16, 1, 21, 21)
    for image, index, window in zip(batches["pd"], batches["index"], batches["window"].tolist(), strict=True):
        top, left, height, width, rows, columns, turns = window
        stored = shards.read(int(index), "pd")
        crop = stored[top : top + 16, left : left + 16]
        shown = np.rot90(crop[:: -1 if rows else 1, :: -1 if columns else 1], turns)
        assert (height, width) == stored.shape
        np.testing.assert_array_equal(image[0].numpy(), shown)
