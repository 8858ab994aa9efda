"""Finished on their device, batches hold what the loader's own finishing on the host gives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quell.configs.fields import Source
from quell.launch.data import finishing, loading
from quell.launch.data.finishing import Finisher
from quell.shards.building.writer import write_split
from quell.shards.reading.draws import splitmix
from quell.shards.reading.draws.geometry import PhiloxUniforms
from quell.shards.reading.loaders import Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.pixels import transforms
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

SAMPLES = 8
FIELDS = {
    "noisy": Source(),
    "clean": Source(scale_of="noisy"),
    "other": Source("noisy", draw="unpaired"),
    "third": Source("clean", draw="unpaired", scale_of="other"),
}
NORMALS = {"added": "noisy", "wide": "noisy", "probe": "clean"}
RECIPE = Recipe(FIELDS, NORMALS, {"wide": 5}, crop=16, flip=True, rotate=True, phase=True, normalise="median")


def shards(folder: Path, kind: str) -> ShardSet:
    """A split of random images of this dtype, one of them black and one mostly black."""
    random = np.random.default_rng(0)

    def image(number: int) -> np.ndarray:
        values = random.gamma(2.0, 30.0, (20, 24)) * (number > 0)
        if number == 1:
            values[4:] = 0
        if kind == "complex64":
            values = values * np.exp(1j * random.uniform(0, 6, values.shape))
        return np.clip(values.real, 0, 250).astype(kind) if kind == "uint8" else values.astype(kind)

    samples = [{"__key__": f"s{i}", "noisy.npy": image(i), "clean.npy": image(i)} for i in range(SAMPLES)]
    write_split(folder / "train", samples, name="t", meta={})
    return ShardSet.open(folder / "train")


def batches(split: ShardSet, recipe: Recipe, *, seed: int = 3, steps: int = 4, **order: Any) -> list[dict[str, Any]]:
    """The finished micro-batches of the first steps."""
    finish = Finisher(recipe, split, seed)
    with Loader(split, SampleOrder(SAMPLES, 4, seed, **order), recipe, steps=steps) as loader:
        return [finish(batch) | {"epochs": batch.get("epoch")} for step in loader for batch in step]


@pytest.mark.parametrize("normalise", ["median", "none"])
@pytest.mark.parametrize(
    ("kind", "representation"),
    [("float32", "auto"), ("uint8", "auto"), ("complex64", "ri"), ("complex64", "complex"), ("complex64", "magnitude")],
)
def test_images_and_scales_are_those_of_the_host(
    tmp_path: Path, kind: str, representation: Any, normalise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same crops, mirrorings, rotations and phases, which the versions draw differently."""
    monkeypatch.setattr(splitmix, "uniforms", PhiloxUniforms())
    split = shards(tmp_path, kind)
    recipe = replace(RECIPE, representation=representation, normalise=normalise)
    on_host, on_device = (batches(split, replace(recipe, draws=draws)) for draws in (1, 2))
    for expected, actual in zip(on_host, on_device, strict=True):
        assert actual.keys() == expected.keys()
        for name in expected:
            if name in ("key", "epochs"):
                assert name == "epochs" or actual[name] == expected[name]
                continue
            assert (actual[name].shape, actual[name].dtype) == (expected[name].shape, expected[name].dtype), name
            if name not in NORMALS:
                is_exact = name == "index" or not kind.startswith("complex")
                assert (actual[name] - expected[name]).abs().max() <= (
                    0 if is_exact else 1e-6 * expected[name].abs().max()
                ), name


@pytest.mark.parametrize("representation", ["ri", "complex"])
def test_normals_depend_on_seed_epoch_sample_and_name_alone(tmp_path: Path, representation: Any) -> None:
    split = shards(tmp_path, "complex64")
    recipe = replace(RECIPE, representation=representation)

    def by_place(found: list[dict[str, Any]]) -> dict[tuple[int, int], dict[str, torch.Tensor]]:
        places: dict[tuple[int, int], dict[str, torch.Tensor]] = {}
        for batch in found:
            for row, place in enumerate(zip(batch["index"].tolist(), batch["epochs"].tolist(), strict=True)):
                places[place] = {name: batch[name][row] for name in NORMALS}
        return places

    whole = by_place(batches(split, recipe))
    assert len(whole) == 2 * SAMPLES
    for accumulate in (2, 4):
        for place, drawn in by_place(batches(split, recipe, accumulate=accumulate)).items():
            assert all(torch.equal(drawn[name], whole[place][name]) for name in NORMALS)
    of_rank = by_place(batches(split, recipe, rank=1, world=2))
    assert len(of_rank) == SAMPLES
    for place, drawn in of_rank.items():
        assert all(torch.equal(drawn[name], whole[place][name]) for name in NORMALS)
    draws = [drawn[name].flatten()[:40] for drawn in whole.values() for name in NORMALS]
    draws += [drawn["added"].flatten()[:40] for drawn in by_place(batches(split, recipe, seed=4)).values()]
    assert (
        len({tuple(torch.view_as_real(d).flatten().tolist() if d.is_complex() else d.tolist()) for d in draws})
        == (3 + 1) * 2 * SAMPLES
    )


def test_the_median_on_a_device_is_that_of_the_host() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randn((5, 1, 13, 17), generator=random)
    images[1], images[2, :, 2:] = 0, 0
    for values in (images, torch.complex(images, images.roll(1, -1))):
        expected = torch.tensor([transforms.typical_magnitude(image) for image in values.numpy()])
        assert torch.allclose(finishing.typical_of(values.abs().flatten(1)).flatten(), expected, rtol=1e-6)
    pairs = torch.cat([images, images.roll(1, -1)], 1)
    expected = torch.tensor([transforms.typical_magnitude(transforms.as_complex(pair)) for pair in pairs.numpy()])
    assert torch.allclose(finishing.typical_of(torch.hypot(*pairs.unbind(1)).flatten(1)).flatten(), expected)


def test_whole_images_are_finished(tmp_path: Path) -> None:
    split = shards(tmp_path, "complex64")
    fields = {"noisy": Source(), "clean": Source(scale_of="noisy")}
    recipe = Recipe(fields, normalise="median", representation="complex", phase=True, crop=16)
    with loading.whole_images(split, np.arange(SAMPLES), recipe, 3) as found:
        for batch in found:
            assert set(batch) == {"noisy", "noisy_scale", "clean", "clean_scale", "index", "key"}
            for row, index in enumerate(batch["index"].tolist()):
                stored = split.read(index, "noisy")
                assert batch["noisy_scale"][row].item() == np.float32(transforms.typical_magnitude(stored))
                np.testing.assert_allclose(batch["noisy"][row, 0] * batch["noisy_scale"][row, 0], stored, rtol=1e-5)


@pytest.mark.parametrize("representation", ["ri", "complex", "magnitude"])
def test_a_device_is_never_read(tmp_path: Path, representation: Any) -> None:
    """The meta device has no values: whatever reads one, and would make a GPU wait, fails there."""
    split = shards(tmp_path, "complex64")
    recipe = replace(RECIPE, representation=representation, seeds=True)
    finish = Finisher(recipe, split, 3)
    with Loader(split, SampleOrder(SAMPLES, 4, 3), recipe, steps=1) as loader:
        ((batch,),) = loader
    elsewhere = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in batch.items()}
    finished, expected = finish(elsewhere), finish(batch)
    assert finished.keys() == expected.keys() and finished["seeds"].device.type == "meta"
    for name, value in expected.items():
        if torch.is_tensor(value):
            assert (finished[name].shape, finished[name].dtype) == (value.shape, value.dtype), name
            assert finished[name].device.type == "meta", name
