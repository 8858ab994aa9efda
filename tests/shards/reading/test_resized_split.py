"""Images of any size are shown in one: resized whole, all fields alike, in their own dtype, and still verified."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quell.configs.errors import DataError
from quell.configs.fields import Source
from quell.launch import train
from quell.shards.building.writer import write_split
from quell.shards.reading.batch_assembler import BatchAssembler
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe
from quell.shards.reading.shard_set import ShardSet

SIZES = [(40, 52), (40, 52), (31, 64), (90, 45), (24, 24), (24, 30)]
SIZE = (32, 24)
FIELDS = {"noisy": Source(), "clean": Source(scale_of="noisy")}


@pytest.fixture(params=["uint8", "float32", "complex64"])
def images(request: Any, tmp_path: Path) -> tuple[ShardSet, list[dict[str, np.ndarray]]]:
    """A split of images of several sizes, colour where they are integers, and the images."""
    random = np.random.default_rng(0)
    samples = []
    for size in SIZES:
        if request.param == "uint8":
            pair = {name: random.integers(0, 255, (*size, 3), dtype=np.uint8) for name in FIELDS}
        else:
            pair = {name: random.random(size).astype(np.float32) for name in FIELDS}
        if request.param == "complex64":
            pair = {name: (image + 1j * image[::-1]).astype(np.complex64) for name, image in pair.items()}
        samples.append(pair)
    stored = [{"__key__": f"s{i}", **{f"{n}.npy": v for n, v in pair.items()}} for i, pair in enumerate(samples)]
    write_split(tmp_path / "train", stored, name="sizes", meta={"data_range": 1.0})
    return ShardSet.open(tmp_path / "train"), samples


def expected(image: np.ndarray) -> np.ndarray:
    """The image in the new size by Pillow, (C, H, W), as the batch holds it."""
    if image.dtype == np.complex64:
        return np.concatenate([expected(image.real), expected(image.imag)])
    planes = image if image.ndim == 3 else image[..., None]
    resized = [
        np.asarray(Image.fromarray(planes[..., c].astype(np.float32)).resize(SIZE[::-1], Image.Resampling.BICUBIC))
        for c in range(planes.shape[-1])
    ]
    stacked = np.stack(resized)
    return np.rint(stacked).clip(0, 255) / 255 if image.dtype == np.uint8 else stacked


def test_batches_and_evaluation_show_the_resized_images(images: tuple[ShardSet, list[dict[str, np.ndarray]]]) -> None:
    split, stored = images
    recipe = Recipe(FIELDS, resize=SIZE)
    order = SampleOrder(size=len(split), batch=3, seed=1)
    with Loader(split, order, recipe, steps=4) as loader:
        batches = [batch for (batch,) in loader]
    with EvalLoader(split, np.arange(len(split)), recipe, 4) as evaluation:
        batches += list(evaluation)
    assert len(batches[-1]["index"]) == 2 and len(batches[-2]["index"]) == 4, "one size: full evaluation batches"
    for batch in batches:
        for place, sample in enumerate(batch["index"].tolist()):
            for name in FIELDS:
                value = batch[name][place]
                assert value.shape[-2:] == SIZE
                torch.testing.assert_close(
                    value, torch.from_numpy(expected(stored[sample][name])).float(), rtol=1e-5, atol=1e-5
                )


def test_crops_are_taken_from_the_resized_image(images: tuple[ShardSet, list[dict[str, np.ndarray]]]) -> None:
    split, stored = images
    assembler = BatchAssembler(split, Recipe(FIELDS, resize=SIZE, crop=20, crop_at="centre"), seed=0)
    samples = np.arange(len(split))
    batch = assembler.batch(np.zeros(len(split), dtype=np.int64), samples, {})
    for sample in samples.tolist():
        whole = expected(stored[sample]["noisy"])
        torch.testing.assert_close(
            batch["noisy"][sample], torch.from_numpy(whole[:, 6:26, 2:22]).float(), rtol=1e-5, atol=1e-5
        )


def test_a_crop_beyond_the_new_size_is_refused(images: tuple[ShardSet, list[dict[str, np.ndarray]]]) -> None:
    split, _ = images
    with pytest.raises(DataError, match=r"data.crop 30 is larger than the smallest image .* \(32 x 24\)"):
        BatchAssembler(split, Recipe(FIELDS, resize=SIZE, crop=30), seed=0)


def test_a_run_trains_and_is_evaluated_on_resized_photographs_of_any_size(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for split, count in (("train", 4), ("val", 2)):
        sizes = [(48, 60), (70, 52), (48, 48), (90, 61)][:count]
        pairs = [{name: random.integers(0, 255, (*size, 3), dtype=np.uint8) for name in FIELDS} for size in sizes]
        stored = [{"__key__": f"s{i}", **{f"{n}.npy": v for n, v in pair.items()}} for i, pair in enumerate(pairs)]
        write_split(tmp_path / split, stored, name="photos", meta={"data_range": 1.0})
    settings = ["data.resize=40", "data.crop=null", "data.batch_size=2", "loop.epochs=null", "loop.max_steps=2"]
    network = "pipeline.network={name: dncnn, depth: 3, width: 4}"
    words = ["--config", "configs/supervised.yaml", f"data.root={tmp_path}", network, *settings]
    assert train.main([*words, "--run-dir", str(tmp_path / "run")]) == 0
