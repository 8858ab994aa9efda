"""--resize: all images of a data set in one size, antialiased, the fields of a sample alike."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quell.configs.errors import ConfigError, DataError
from quell.shards import build
from quell.shards.building.items import Sample, WorkItem
from quell.shards.building.resizing import Resizing, Size, image_size, resize_antialiased
from quell.shards.reading.shard_set import ShardSet

ITEM = WorkItem("i", "i", list)


def resized(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    return Resizing(Size(height, width), mode).resize(image, "a.png")


def test_sizes_are_parsed() -> None:
    assert image_size("256") == Size(256, 256) and image_size("240x320") == Size(240, 320)
    for text in ("0", "-3", "12x", "axb", "1.5", "99999999"):
        with pytest.raises(argparse.ArgumentTypeError, match="HEIGHTxWIDTH"):
            image_size(text)


def test_fine_detail_becomes_grey_instead_of_aliasing() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = resized(stripes, 16, 16, "stretch")
    assert small.dtype == np.uint8 and np.ptp(small[:, 2:-2]) <= 2 and abs(float(small.mean()) - 127.5) < 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "complex64"])
@pytest.mark.parametrize("channels", [0, 3])
def test_values_keep_their_dtype_and_range(dtype: str, channels: int) -> None:
    shape = (30, 41, channels) if channels else (30, 41)
    image = (np.random.default_rng(0).random(shape) * 250).astype(dtype)
    if dtype == "complex64":
        image = (image * (1 - 2j)).astype(dtype)
    small = resized(image, 13, 17, "stretch")
    assert small.shape == (13, 17, *shape[2:]) and small.dtype == dtype
    assert abs(small.mean() - image.mean()) < 8
    constant = np.full(shape, 200).astype(dtype)
    np.testing.assert_allclose(resized(constant, 60, 70, "crop"), 200, rtol=1e-6)


def test_crop_keeps_the_aspect_and_the_centre() -> None:
    y, x = np.mgrid[:60, :120]
    disc = (np.hypot(y - 29.5, x - 59.5) < 20).astype(np.float32)
    cropped = resized(disc, 30, 30, "crop") > 0.5
    assert abs(cropped.any(axis=0).sum() - 20) <= 1 and abs(cropped.any(axis=1).sum() - 20) <= 1
    assert (resized(disc, 30, 30, "stretch") > 0.5).any(axis=0).sum() == pytest.approx(10, abs=1)
    window = resized(disc, 30, 50, "window")
    assert (window == disc[15:45, 35:85]).all()


def test_the_fields_of_a_sample_are_treated_alike_and_the_former_size_is_noted() -> None:
    image = np.random.default_rng(1).random((40, 50)).astype(np.float32)
    sample = Sample.of_arrays("s", {"noisy": image, "clean": 2 * image}, slice=3)
    small = Resizing(Size(16, 16), "crop")(ITEM, sample)
    noisy, clean = small.members["noisy.npy"], small.members["clean.npy"]
    assert isinstance(noisy, np.ndarray) and isinstance(clean, np.ndarray)
    np.testing.assert_allclose(clean, 2 * noisy, rtol=1e-5)
    assert small.metadata == {"slice": 3, "size_before": [40, 50]}
    same = Sample.of_arrays("s", {"noisy": image[:16, :16]})
    assert Resizing(Size(16, 16), "stretch")(ITEM, same) is same


def test_what_cannot_be_resized_is_refused() -> None:
    resizing = Resizing(Size(16, 16), "window")
    with pytest.raises(DataError, match=r"i: sample s is 10 x 20 pixels, smaller than the window of 16 x 16"):
        resizing(ITEM, Sample.of_arrays("s", {"noisy": np.ones((10, 20))}))
    with pytest.raises(DataError, match=r"the fields differ in size .noisy 20 x 20, clean 10 x 10."):
        resizing(ITEM, Sample.of_arrays("s", {"noisy": np.ones((20, 20)), "clean": np.ones((10, 10))}))
    with pytest.raises(ConfigError, match="omit --encoded"):
        resizing(ITEM, Sample("s", {"noisy.png": b"x"}))


def photographs(folder: Path) -> Path:
    folder.mkdir()
    for number, size in enumerate(((40, 60), (64, 32), (90, 90), (32, 32))):
        values = np.random.default_rng(number).integers(0, 255, size, dtype=np.uint8)
        Image.fromarray(values).save(folder / f"p{number}.png")
    return folder


def test_a_set_of_mixed_sizes_gets_one_size_recorded_in_index_card_and_report(tmp_path: Path) -> None:
    words = ["folder", f"--field=noisy={photographs(tmp_path / 'in')}", "--split=1,0,0", "--resize=32x24"]
    assert build.main([*words, "--resize-mode=crop", "--output", str(tmp_path / "out")]) == 0
    shards = ShardSet.open(tmp_path / "out" / "train")
    assert shards.fields["noisy"].shape == (32, 24)
    expected = {"height": 32, "width": 24, "mode": "crop"}
    assert shards.meta["resize"] == expected and shards.json(0)["size_before"] == [40, 60]
    assert json.loads((tmp_path / "out" / "build.json").read_text())["resize"] == expected
    assert "- resize: {'height': 32, 'width': 24, 'mode': 'crop'}" in (tmp_path / "out" / "dataset.md").read_text()
    assert build.main([*words, "--resize-mode=stretch", "--output", str(tmp_path / "out")]) == 4  # another data set


def test_noise_is_added_after_resizing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["awgn", "--train", str(photographs(tmp_path / "in")), "--split=1,0,0", "--sigma=25", "--resize=64"]
    assert build.main([*words, "--output", str(tmp_path / "out")]) == 0
    shards = ShardSet.open(tmp_path / "out" / "train")
    noise = [shards.read(i, "noisy") - shards.read(i, "clean") for i in range(4)]
    assert np.std(noise) == pytest.approx(25 / 255, rel=0.05) and shards.fields["clean"].shape == (64, 64)
    assert build.main(["phantom", "--resize=64", "--output", str(tmp_path / "phantom")]) == 2
    assert "these images are generated" in capsys.readouterr().err


def test_resizing_is_the_antialiased_filter_of_pillow() -> None:
    image = np.random.default_rng(0).random((50, 70)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize((20, 30), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(resize_antialiased(image, Size(30, 20)), expected)
