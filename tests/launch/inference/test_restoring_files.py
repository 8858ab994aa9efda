"""denoise.py on files as people have them: folders, units, levels, checks before the first result is written."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from quell.launch import denoise
from quell.launch.inference import large_images
from quell.launch.inference.files import open_file
from tests.launch.inference.identity_runs import identity_run

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (40, 30), np.uint8)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on uint8 images that returns its input."""
    return identity_run(tmp_path_factory.mktemp("grey"))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on uint8 colour images that returns its input."""
    return identity_run(tmp_path_factory.mktemp("colour"), (24, 24, 3))


@pytest.fixture(autouse=True)
def forget_training_log(grey: Path, colour: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Discard what the trainings of the fixtures printed."""
    capsys.readouterr()


def restore(folder: Path, *arguments: object) -> int:
    """The exit code of denoise.py."""
    return denoise.main(["--run", str(folder), *(str(argument) for argument in arguments)])


def refusal(capsys: pytest.CaptureFixture[str], out: Path) -> str:
    """What was printed; checks that nothing was written."""
    error = capsys.readouterr().err
    assert "error: " in error and "Traceback" not in error
    assert not out.exists()
    return error


def save(path: Path, pixels: np.ndarray = GREY) -> Path:
    """Write a picture and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, lossless=True)
    return path


def test_a_folder_is_restored_with_its_sub_folders_and_what_is_no_image_is_named(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "one/a.png", "two/deep/b.TIF", "two/c.jpg", "d.bmp", "e.webp"):
        save(folder / name, np.dstack([GREY] * 3) if name == "e.webp" else GREY)
    np.save(folder / "f.npy", GREY)
    for name in (".DS_Store", "._a.png", "DICOMDIR", "Thumbs.db", "notes.txt", ".hidden/a.png", "__MACOSX/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    assert restore(grey, folder, "--output", tmp_path / "out") == 0
    captured = capsys.readouterr()
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert files == ["a.png", "d.bmp", "e.webp", "f.npy", "one/a.png", "two/c.jpg", "two/deep/b.TIF"]
    assert sorted(captured.out.split()) == sorted(str(tmp_path / "out" / file) for file in files)
    for reason in ("4 hidden files", "1 file of another type", "1 broken link", "2 hidden folders"):
        assert f"left out {reason}" in captured.err
    assert "restoring: 7 of 7 files, ETA 0:00:00" in captured.err
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), GREY)


def test_a_pattern_chooses_files_and_an_output_folder_inside_is_not_searched(grey: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/a.png", "c.bmp"):
        save(tmp_path / name)
    for _ in range(2):
        assert restore(grey, tmp_path, "--pattern", "a.*", "--output", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.png", "a.png"]
    for pattern, names in {"sub/*": ["a.png"], "**/*.png": ["a.png", "a.png", "b.png"], "?.bmp": ["c.bmp"]}.items():
        shutil.rmtree(tmp_path / "out")
        out = tmp_path / "out"
        assert restore(grey, tmp_path, "--pattern", pattern, "--output", out) == 0
        assert sorted(path.name for path in out.rglob("*.*")) == names


def test_names_are_found_in_either_form_of_their_accents(grey: Path, tmp_path: Path) -> None:
    decomposed, composed = (unicodedata.normalize(form, "Aufnahme-ü.png") for form in ("NFD", "NFC"))
    save(tmp_path / decomposed)
    assert restore(grey, tmp_path / composed, "--output", tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [decomposed]


def test_everything_is_checked_before_the_first_result_is_written(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, good = tmp_path / "out", save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes(good.read_bytes()[:200])
    tifffile.imwrite(tmp_path / "broken.tif", GREY, compression="zlib")
    content = bytearray((tmp_path / "broken.tif").read_bytes())
    content[-300:-100] = bytes(200)
    (tmp_path / "broken.tif").write_bytes(content)
    save(tmp_path / "small.png", GREY[:5])
    save(tmp_path / "colour.png", RNG.integers(0, 256, (40, 30, 3), np.uint8))
    save(tmp_path / "sub" / "good.png")
    np.save(tmp_path / "nan.npy", np.where(np.eye(30, dtype=bool), np.nan, 0.5))
    (tmp_path / "empty.tif").write_bytes(b"")
    cases = {
        "broken.png": "broken.png",
        "broken.tif": "broken.tif",
        "small.png": "sides of at least 8 px",
        "colour.png": "a colour image, but this run was trained on grey images",
        "sub/good.png": "two results would be written to",
        "nan.npy": "row 0, column 0 is NaN",
        "empty.tif": "empty.tif",
        "absent.png": "no such file",
        "notes.txt": "cannot read '.txt' files",
    }
    (tmp_path / "notes.txt").write_text("")
    for name, message in cases.items():
        assert restore(grey, good, tmp_path / name, "--output", out) in (2, 4), name
        assert message in refusal(capsys, out), name
    assert restore(grey, good, *(tmp_path / name for name in ("broken.png", "small.png")), "--output", out) == 4
    error = refusal(capsys, out)
    assert "2 problems with 3 inputs, so that nothing was restored" in error and "small.png" in error
    assert restore(grey, good, "--output", tmp_path) == 2
    assert "is an input and would be overwritten" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert restore(grey, good, "--output", tmp_path / "file" / "out") == 6
    assert "is a file" in capsys.readouterr().err
    assert restore(grey, tmp_path / "sub", tmp_path / "sub" / "good.png", "--output", out) == 2
    assert "given twice" in refusal(capsys, out)
    (tmp_path / "void").mkdir()
    assert restore(grey, tmp_path / "void", "--output", out) == 4
    assert "no files in this folder" in refusal(capsys, out)


FAR: dict[str, tuple[np.ndarray, str]] = {
    "floats of 0 to 255": (GREY.astype(np.float32), "256 times as bright"),
    "int16": (GREY.astype(np.int16), "save it as uint8"),
    "int32": (GREY.astype(np.int32), "times as bright"),
    "uint32": (GREY.astype(np.uint32) << 16, "times as bright"),
    "12 bits in uint16": (GREY.astype(np.uint16) << 4, "scale it to the full 16 bits"),
    "8 bits in uint16": (GREY.astype(np.uint16), "scale it to the full 16 bits"),
    "hundredths": (GREY.astype(np.float32) / 255 / 100, "times as dark"),
    "centred": ((GREY / 127.5 - 1).astype(np.float32), "reaches far below"),
    "Hounsfield": (GREY.astype(np.float32) * 8 - 1024, "reaches far below"),
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_images_far_from_the_training_images_are_refused_with_the_numbers(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, suffix: str
) -> None:
    pixels, message = FAR[name]
    file, out = tmp_path / f"a.{suffix}", tmp_path / "out"
    np.save(file, pixels) if suffix == "npy" else tifffile.imwrite(file, pixels)
    assert restore(grey, file, "--output", out) == 4
    error = refusal(capsys, out)
    assert message in error and "the run was trained on uint8 read as 0 to 0.9" in error and "--force" in error
    assert error.count("\n") == 1
    assert restore(grey, file, "--output", out, "--force") == 0
    assert "--force was given" in capsys.readouterr().err
    back = np.load(out / "a.npy") if suffix == "npy" else tifffile.imread(out / "a.tif")
    assert back.dtype == pixels.dtype
    np.testing.assert_allclose(back, pixels, rtol=1e-6)


@pytest.mark.parametrize(
    "pixels",
    [
        (GREY / 255).astype(np.float32),
        (GREY / 255).astype(np.float16),
        GREY.astype(np.uint16) * 257,
        GREY // 2,
        np.minimum(GREY, 60),
        np.where(GREY > 250, 255, 2).astype(np.uint8),
        (GREY / 255 + RNG.normal(0, 0.1, GREY.shape)).astype(np.float32),
    ],
)
def test_images_of_ordinary_levels_are_restored(grey: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    assert restore(grey, tmp_path / "a.tif", "--output", tmp_path / "out") == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), pixels)


def test_a_run_that_divides_images_by_their_median_takes_any_scale(tmp_path: Path) -> None:
    run = identity_run(tmp_path / "median", normalise="median")
    np.save(tmp_path / "a.npy", GREY.astype(np.float32) + 1)
    assert restore(run, tmp_path / "a.npy", "--output", tmp_path / "out") == 0


def test_a_run_that_does_not_know_its_training_level_says_so(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(grey, tmp_path / "run")
    for file in (tmp_path / "run").glob("checkpoints/*/meta.json"):
        meta = json.loads(file.read_text())
        del meta["training_data"]
        file.write_text(json.dumps(meta))
    np.save(tmp_path / "a.npy", GREY.astype(np.float32))
    assert restore(tmp_path / "run", tmp_path / "a.npy", "--output", tmp_path / "out") == 4  # its shards still exist
    assert "trained on uint8" in capsys.readouterr().err
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(grey.parent), str(tmp_path / "gone")))
    assert restore(tmp_path / "run", tmp_path / "a.npy", "--output", tmp_path / "out") == 0
    assert "cannot be checked" in capsys.readouterr().err


def test_pixels_of_odd_tiffs_are_restored_in_the_meaning_of_a_viewer(grey: Path, tmp_path: Path) -> None:
    """An inverted image would be brightened where it is dark; the network sees what a viewer shows."""
    tifffile.imwrite(tmp_path / "white.tif", 255 - GREY, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "turned.tif", np.rot90(GREY).copy(), extratags=[(274, "H", 1, 6, True)])
    palette = np.repeat((np.arange(256)[::-1] * 257).astype(np.uint16)[None], 3, 0)
    tifffile.imwrite(tmp_path / "palette.tif", 255 - GREY, photometric="palette", colormap=palette)
    for name in ("white", "turned", "palette"):
        arguments = [tmp_path / f"{name}.tif", "--output", tmp_path / "out"]
        assert restore(grey, *arguments, "--format", "npy") == 0
        np.testing.assert_array_equal(np.load(tmp_path / "out" / f"{name}.npy"), GREY)
        assert restore(grey, *arguments) == 0
        assert (tmp_path / "out" / f"{name}.tif").read_bytes() == (tmp_path / f"{name}.tif").read_bytes()


def test_large_images_and_long_stacks_are_restored_in_parts(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = RNG.integers(0, 256, (9, 40, 30), np.uint8)
    big = RNG.integers(0, 256, (150, 90), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "big.tif", big, tile=(16, 32), compression="zlib", photometric="miniswhite")
    np.save(tmp_path / "big.npy", big.astype(np.float32) / 255)
    monkeypatch.setattr(large_images, "MAX_PX_AT_ONCE", 40 * 30 * 4)
    monkeypatch.setattr(open_file, "LARGE_VALUES", 4000)
    files = [tmp_path / name for name in ("stack.tif", "big.tif", "big.npy")]
    assert restore(grey, *files, "--output", tmp_path / "out", "--tile", 32, "--overlap", 8, "--batch", 2) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "stack.tif"), stack)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "big.tif"), big)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "big.npy"), big.astype(np.float32) / 255, atol=1e-6)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert restore(grey, tmp_path / "big.tif", "--output", tmp_path / "npy", "--format", "npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "npy" / "big.npy"), 255 - big)


def test_a_colour_run_keeps_opacity_and_refuses_grey_images(
    colour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = RNG.integers(0, 256, (40, 30, 4), np.uint8)
    save(tmp_path / "a.png", pixels)
    assert restore(colour, tmp_path / "a.png", "--output", tmp_path / "out") == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), pixels)
    capsys.readouterr()
    assert restore(colour, save(tmp_path / "grey.png"), "--output", tmp_path / "none") == 4
    assert "this run was trained on colour images" in refusal(capsys, tmp_path / "none")


def test_fastmri_files_are_restored_in_the_units_of_their_builder(tmp_path: Path) -> None:
    units = "each volume divided by its greatest magnitude"
    run = identity_run(tmp_path, to_stored=np.float32, source="fastmri", units=units)
    volume = (RNG.random((3, 40, 30)) * 1e-5).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (volume + 0j).astype(np.complex64)
        file["reconstruction_esc"] = volume
    assert restore(run, tmp_path / "a.h5", "--output", tmp_path / "out") == 0
    with h5py.File(tmp_path / "out" / "a.h5") as file:
        assert sorted(file) == ["kspace", "reconstruction_esc"]
        np.testing.assert_allclose(file["reconstruction_esc"][()], volume, rtol=1e-6)


def test_a_folder_without_permission_is_refused_first(
    grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser, who may run this, may write everywhere
    assert restore(grey, save(tmp_path / "a.png"), "--output", tmp_path / "locked" / "out") == 6
    assert "no permission" in refusal(capsys, tmp_path / "locked")


def test_zarr_images_are_restored_in_place_of_their_levels(grey: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    pixels = np.kron(RNG.integers(0, 256, (2, 20, 16)), np.ones((1, 2, 2))).astype(np.uint8)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=2)
    for name, level in (("0", pixels), ("1", pixels[:, ::2, ::2])):
        array = group.create_array(name, shape=level.shape, chunks=(1, 16, 16), dtype="u1")
        array[...] = level
    datasets = [{"path": name} for name in "01"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": [{"name": n} for n in "cyx"], "datasets": datasets}]
    assert restore(grey, tmp_path / "a.zarr", "--output", tmp_path / "out") == 0
    copy = zarr.open_group(str(tmp_path / "out" / "a.zarr"), mode="r")
    assert dict(copy.attrs) == dict(group.attrs)
    np.testing.assert_array_equal(copy["0"][...], pixels)
    np.testing.assert_array_equal(copy["1"][...], pixels[:, ::2, ::2])
    for name in (".zattrs", "0/.zarray", "1/.zarray"):
        assert (tmp_path / "out" / "a.zarr" / name).read_bytes() == (tmp_path / "a.zarr" / name).read_bytes()


def test_fields_may_be_folders_of_the_same_names(
    mini: Path, small_run: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from quell.launch.training import run

    assert run.train(small_run("loop.max_steps=1"), tmp_path / "run") == 0  # type: ignore[operator]
    images = (RNG.normal(size=(2, 24, 40)) + 1j * RNG.normal(size=(2, 24, 40))).astype(np.complex64) / 2
    for name, image in zip(("pd", "pdfs"), images, strict=True):
        (tmp_path / name / "s").mkdir(parents=True)
        np.save(tmp_path / name / "s" / "1.npy", image)
    folders = f"pd={tmp_path / 'pd'},pdfs={tmp_path / 'pdfs'}"
    assert restore(tmp_path / "run", folders, "--output", tmp_path / "out") == 0
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.npy"))
    assert files == ["s/1_pd_cross.npy", "s/1_pdfs_cross.npy"]
    (tmp_path / "pdfs" / "s" / "2.npy").write_bytes((tmp_path / "pdfs" / "s" / "1.npy").read_bytes())
    assert restore(tmp_path / "run", folders, "--output", tmp_path / "out") == 4
    assert "1 names are in one folder only; the first, s/2, has no partner in" in capsys.readouterr().err


def test_progress_and_files_do_not_mix(grey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.png")
    assert restore(grey, tmp_path, "--output", tmp_path / "out", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out.split() == [str(tmp_path / "out" / f"{name}.png") for name in "ab"]
