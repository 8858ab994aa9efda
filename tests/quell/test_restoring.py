"""Restoring from Python gives what the command line gives, for arrays and for files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import quell
from quell.configs.errors import CheckpointError, ConfigError, DataError
from quell.launch import denoise
from tests.launch.inference.identity_runs import identity_run


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on grey 8-bit images whose network returns its input."""
    return identity_run(tmp_path_factory.mktemp("grey"))


def pair(shape: tuple[int, ...] = (30, 40)) -> dict[str, np.ndarray]:
    """Two complex noisy contrasts."""
    rng = np.random.default_rng(3)
    return {
        name: (0.5 + 0.1 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))).astype(np.complex64)
        for name in ("pd", "pdfs")
    }


def test_fields_are_restored_as_the_command_restores_their_files(trained: Path, tmp_path: Path) -> None:
    images = pair((2, 30, 40))
    for name, array in images.items():
        np.save(tmp_path / f"{name}.npy", array)
    text = ",".join(f"{name}={tmp_path / name}.npy" for name in images)
    assert denoise.main(["--run", str(trained), text, "--output", str(tmp_path / "out"), "--tile", "0"]) == 0
    model = quell.load(trained, tile=0)
    restored = model.restore(images)
    assert list(restored) == ["pd", "pdfs"] == list(model.fields)
    for name, array in restored.items():
        assert np.array_equal(array, np.load(tmp_path / "out" / f"{name}_{name}_cross.npy"))
    of_files: Any = model.restore(text)
    assert isinstance(of_files, dict) and all(np.array_equal(of_files[name], restored[name]) for name in restored)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_an_array_is_restored_as_a_file_that_holds_it(grey: Path, tmp_path: Path, dtype: str) -> None:
    values = np.random.default_rng(1).random((20, 24))
    array = (values * np.iinfo(dtype).max).astype(dtype) if dtype.startswith("uint") else values.astype(dtype)
    np.save(tmp_path / "noisy.npy", array)
    model = quell.load(grey, device="cpu")
    (file,) = model.restore(tmp_path / "noisy.npy", output=tmp_path / "out")
    restored = model.restore(array)
    assert restored.dtype == np.load(file).dtype and np.array_equal(restored, np.load(file))
    of_file = model.restore(str(tmp_path / "noisy.npy"))
    assert isinstance(of_file, np.ndarray) and np.array_equal(restored, of_file)


def test_files_keep_their_format_and_a_folder_gives_arrays_by_their_paths(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(2).integers(0, 255, (20, 24), dtype=np.uint8)
    (tmp_path / "noisy").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(image).save(tmp_path / "noisy" / name)
    model = quell.load(grey)
    written = model.restore("noisy", output="restored")
    assert written == [Path("restored/a.png"), Path("restored/b.png")]
    assert np.array_equal(np.asarray(Image.open(written[0])), image)
    (tmp_path / "noisy" / ".hidden.png").write_bytes(b"")
    (tmp_path / "noisy" / "notes.txt").write_text("no image")
    results = model.restore("noisy")
    assert isinstance(results, dict) and list(results) == [Path("noisy/a.png"), Path("noisy/b.png")]
    np.save("c.npy", image + 1)
    of_file, of_folder = model.restore(["c.npy", "noisy"])
    assert isinstance(of_file, np.ndarray) and np.array_equal(of_file, image + 1) and isinstance(of_folder, dict)
    for array in (*results.values(), *of_folder.values()):
        assert isinstance(array, np.ndarray) and np.array_equal(array, image)


def test_what_a_notebook_holds_is_restored_as_the_array_that_it_is(grey: Path) -> None:
    model = quell.load(grey)
    image = np.random.default_rng(2).integers(0, 255, (20, 24), dtype=np.uint8)
    for held in (torch.from_numpy(image), Image.fromarray(image)):
        assert np.array_equal(model.restore(held), image)
    floats = torch.from_numpy(image / np.float32(255)).requires_grad_()
    assert np.array_equal(model.restore({"noisy": floats})["noisy"], model.restore(floats.detach().numpy()))
    first, second = model.restore([image, image[:, :20]])
    assert np.array_equal(first, image) and np.array_equal(second, image[:, :20])
    assert model.restore([{"noisy": image}])[0]["noisy"].shape == image.shape


def test_what_is_no_image_is_refused_by_its_type(grey: Path, tmp_path: Path) -> None:
    model = quell.load(grey)
    image = np.zeros((20, 24), dtype=np.uint8)
    refused: list[tuple[Any, str]] = [
        (None, "NoneType is no image"),
        ({1, 2}, "set is no image"),
        (np.ma.masked_array(image, image == 0), "mask would be lost"),
        (Image.fromarray(image).convert("P"), "mode 'P'"),
        (torch.zeros(4, 4, dtype=torch.bfloat16), "torch.Tensor cannot become a NumPy array"),
        ([[1.0], [1.0, 2.0]], "of image 1: shape"),
        ([image, str(tmp_path / "a.npy")], "files or arrays, not both"),
    ]
    for held, words in refused:
        with pytest.raises(DataError, match=words):
            model.restore(held)


def test_options_are_checked_as_those_of_the_command_are(grey: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "noisy.npy", np.zeros((20, 24), dtype=np.uint8))
    for name in ("tiff", "jpg"):
        with pytest.raises(ConfigError, match=f"format: expected one of same, npy, png, tif, got '{name}'"):
            quell.load(grey).restore(tmp_path / "noisy.npy", output=tmp_path / "out", format=name)  # type: ignore[call-overload]
    for name, value in (("tile", -1), ("overlap", -1), ("batch", 0), ("batch", 1.5), ("tile", True)):
        with pytest.raises(ConfigError, match=f"{name}: expected a whole number of"):
            quell.load(grey, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="which: expected one of best, last, average, got 'bset'; did you mean 'best'"
    ):
        quell.load(grey, which="bset")  # type: ignore[arg-type]


def test_the_home_folder_is_found_in_every_path(grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    np.save(tmp_path / "noisy.npy", np.zeros((20, 24), dtype=np.uint8))
    (written,) = quell.load(grey).restore("~/noisy.npy", output="~/out")
    assert written == tmp_path / "out" / "noisy.npy"


def test_what_does_not_fit_the_model_is_refused(trained: Path, grey: Path, tmp_path: Path) -> None:
    model = quell.load(grey)
    image = np.zeros((20, 24), dtype=np.uint8)
    with pytest.raises(DataError, match="pd and pdfs together"):
        quell.load(trained).restore(pair()["pd"])
    with pytest.raises(DataError, match="pdfs is missing"):
        quell.load(trained).restore({"pd": pair()["pd"]})
    with pytest.raises(DataError, match="not finite|NaN"):
        model.restore(np.full((20, 24), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="times as bright as the brightest"):
        model.restore(np.full((20, 24), 4000.0, dtype=np.float32))
    with pytest.raises(ConfigError, match="output="):
        model.restore(image, output=tmp_path)  # type: ignore[call-overload]
    with pytest.raises(CheckpointError, match="not a run folder"):
        quell.load(tmp_path)


def test_a_model_says_what_it_is(trained: Path) -> None:
    model = quell.load(trained)
    assert model.config.pipeline.name == "dual_domain" and model.checkpoint.name == "step-00000004"
    assert "restores pdfs: complex" in model.describe() and "dual_domain" in repr(model)
    assert model.card == model.describe()
    assert "knee" in quell.load("zoo:knee_pd").card.splitlines()[0] or "license" in quell.load("zoo:knee_pd").card
