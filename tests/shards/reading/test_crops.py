"""Images of a batch: the stored pixels, cropped, turned and converted, however they are stored and read."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quell.configs.errors import DataError
from quell.configs.fields import Source
from quell.shards.building.writer import write_split
from quell.shards.reading.batch_assembler import BatchAssembler
from quell.shards.reading.draws import geometry
from quell.shards.reading.loaders import EvalLoader, Loader
from quell.shards.reading.order import SampleOrder
from quell.shards.reading.recipe import Recipe, stream_number
from quell.shards.reading.shard_set import ShardSet

COUNT, CROP = 11, 16
KINDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "float32": ("<f4", ()),
    "big endian": (">f4", ()),
    "float64": ("<f8", ()),
    "complex": ("<c8", ()),
    "uint8": ("|u1", ()),
    "uint16": ("<u2", ()),
    "colour": ("|u1", (3,)),
    "many channels": ("<f4", (5,)),
    "leading axis": ("<f4", (1,)),
    "column-major": ("<f4", ()),
    "png": ("|u1", (3,)),
}
"""Stored type, and the axis of channels."""


def stored_image(random: np.random.Generator, kind: str, size: tuple[int, int]) -> np.ndarray:
    dtype, channels = KINDS[kind]
    values = random.random((*channels, *size) if kind == "leading axis" else (*size, *channels))
    if dtype == "<c8":
        return (values - 0.5 + 1j * random.random(size)).astype(dtype)
    image = (values * {"|u1": 255, "<u2": 65535}.get(dtype, 1.0)).astype(dtype)
    return np.asfortranarray(image) if kind == "column-major" else image


def write(folder: Path, kind: str, *, is_uniform: bool) -> ShardSet:
    random = np.random.default_rng(1)
    samples = []
    for number in range(COUNT):
        size = (20, 24) if is_uniform else (20 + number % 3, 24 + number % 4)
        sample: dict[str, Any] = {"__key__": f"k{number:02d}"}
        for name in ("x", "y"):
            image = stored_image(random, kind, size)
            if kind == "png":
                file = io.BytesIO()
                Image.fromarray(image).save(file, "png")
                sample[f"{name}.png"] = file.getvalue()
            else:
                sample[f"{name}.npy"] = image
        samples.append(sample)
    write_split(folder, samples, name="demo", meta={}, max_size_mb=0.02)
    return ShardSet.open(folder)


def expected_image(
    shards: ShardSet, member: str, sample: int, drawn: geometry.Geometries, representation: str
) -> np.ndarray:
    """(C, H, W), from one geometry, with nothing but numpy's own functions."""
    image = shards.read(sample, member)
    image = image if image.ndim == 3 else image[..., None]
    top, left = (int(position[0] * (side - CROP + 1)) for position, side in zip(drawn[:2], image.shape, strict=False))
    image = image[top : top + CROP, left : left + CROP]
    image = np.flip(image, 0) if drawn.mirror_rows[0] else image
    image = np.flip(image, 1) if drawn.mirror_columns[0] else image
    image = np.rot90(image, drawn.quarter_turns[0]).transpose(2, 0, 1)
    if image.dtype.kind == "c" and representation != "complex":
        return np.concatenate([image.real, image.imag]) if representation == "ri" else np.abs(image)
    scale = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1)
    return image.astype(np.complex64 if image.dtype.kind == "c" else np.float32) / np.float32(scale)


@pytest.mark.parametrize("is_uniform", [True, False], ids=["one size", "sizes"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_hold_the_stored_pixels(kind: str, is_uniform: bool, tmp_path: Path) -> None:
    """First reads, which verify, and second ones, which do not; in one thread and several; unpaired fields too."""
    shards = write(tmp_path, kind, is_uniform=is_uniform)
    representations = ("ri", "complex", "magnitude") if kind == "complex" else ("auto",)
    for representation in representations:
        recipe = Recipe(
            {"x": Source(), "other": Source("y", draw="unpaired")},
            crop=CROP,
            flip=True,
            rotate=True,
            phase=True,
            representation=representation,  # type: ignore[arg-type]
        )
        order = SampleOrder(COUNT, 4, 5)
        with Loader(shards, order, recipe, steps=9, threads=1) as loader:
            batches = [batch for (batch,) in loader]
        for step, batch in enumerate(batches):
            epochs, samples = order.samples(step, 0)
            streams = {"x": (0, samples, "x"), "other": (stream_number("other"), None, "y")}
            assert batch["index"].tolist() == samples.tolist() and batch["epoch"].tolist() == epochs.tolist()
            for name, (stream, shown, member) in streams.items():
                shown = order.unpaired(step, 0, stream) if shown is None else shown
                for i, (epoch, sample) in enumerate(zip(epochs, shown, strict=True)):
                    own = geometry.draw(5, stream, np.array([epoch]), np.array([sample]), flip=True, rotate=True)
                    expected = expected_image(shards, member, int(sample), own, representation)
                    np.testing.assert_allclose(batch[name][i].numpy(), expected, rtol=2e-7)
                    if kind == "complex" and representation != "magnitude":
                        theta = batch["theta" if name == "x" else "other_theta"]
                        assert theta[i].item() == pytest.approx(own.theta[0]) and theta.dtype == torch.float32
        for verify, threads in (("first", 3), ("always", 2), ("never", 4)):
            with Loader(shards, order, recipe, steps=9, verify=verify, threads=threads) as loader:  # type: ignore[arg-type]
                for (again,), first in zip(loader, batches, strict=True):
                    assert again.keys() == first.keys()
                    for name, value in first.items():
                        assert again[name] == value if name == "key" else torch.equal(again[name], value), name


@pytest.mark.parametrize("kind", ["float32", "complex", "uint8", "png"])
def test_whole_images_for_evaluation(kind: str, tmp_path: Path) -> None:
    shards = write(tmp_path, kind, is_uniform=False)
    with EvalLoader(shards, np.arange(COUNT), Recipe({"x": Source()}), 4) as loader:
        for batch in loader:
            for i, sample in enumerate(batch["index"].tolist()):
                image = shards.read(sample, "x")
                if image.dtype.kind == "c":
                    expected = np.stack([image.real, image.imag])
                else:
                    scale = np.float32(255 if image.dtype == np.uint8 else 1)
                    expected = (image if image.ndim == 3 else image[..., None]).transpose(2, 0, 1) / scale
                np.testing.assert_allclose(batch["x"][i].numpy(), expected, rtol=2e-7)


def test_portions_of_a_batch_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion works on as many images as fit the cache: here on one, on three, and on all."""
    shards = write(tmp_path, "complex", is_uniform=True)
    recipe = Recipe({"x": Source()}, crop=CROP, flip=True)
    whole, *parts = (BatchAssembler(shards, recipe, seed=0, pool=pool) for pool in (ThreadPoolExecutor(1), None, None))
    numbers = np.arange(COUNT)
    expected = whole.batch(numbers, numbers, {})["x"]
    for assembler, images in zip(parts, (1, 3), strict=True):
        monkeypatch.setattr("quell.shards.reading.crops.CHUNK_BYTES", images * CROP * CROP * 8)
        for _ in range(2):  # verified, then read in bands
            assert torch.equal(assembler.batch(numbers, numbers, {})["x"], expected)


@pytest.mark.parametrize("crop", [CROP, 20, None], ids=["crop", "full height", "whole"])
def test_a_shard_that_shrinks_while_it_is_read_is_named(tmp_path: Path, crop: int | None) -> None:
    """It would be SIGBUS, and the end of the process, if shards were mapped."""
    shards = write(tmp_path, "float32", is_uniform=True)
    assembler = BatchAssembler(shards, Recipe({"x": Source()}, crop=crop), seed=0, verify="never")
    numbers = np.arange(COUNT)
    assembler.batch(numbers, numbers, {})
    last = shards.files.paths[shards.shard_of(COUNT - 1)]
    with open(last, "r+b") as file:
        file.truncate(2000)
    with pytest.raises(DataError, match=rf"{last.name}: truncated at byte \d+ after it was indexed"):
        assembler.batch(numbers, numbers, {})


@pytest.mark.parametrize(("column", "message"), [("offset", "lies outside its shard"), ("start", "does not fill")])
def test_damage_of_the_index_is_named(tmp_path: Path, column: str, message: str) -> None:
    shards = write(tmp_path, "float32", is_uniform=True)
    shards._table = np.array(shards._table)
    shards._table["x"][column][3] += 10**6 if column == "offset" else 4
    assembler = BatchAssembler(shards, Recipe({"x": Source()}, crop=CROP), seed=0, verify="never")
    with pytest.raises(DataError, match=f"sample k03: field x .*{message}"):
        assembler.batch(np.zeros(5, np.int64), np.arange(5), {})
