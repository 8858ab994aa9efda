"""Folders of images as people really have them: the right pixels in the shards, or a refusal by name."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image

from quell.shards import build
from quell.shards.building.near_duplicates import near_duplicates
from quell.shards.reading.shard_set import ShardSet
from tests.shards.image_files.dicom_files import PICTURE, write_dicom
from tests.shards.image_files.pictures import GREY, RGB, stored_for


def run(root: Path, *more: str, source: str = "folder") -> int:
    fields = ["--field", f"noisy={root}/noisy", "--field", f"clean={root}/clean"] if source == "folder" else []
    return build.main([source, *fields, "--output", str(root / "out"), "--split", "1,0,0", *more])


def only_sample(root: Path) -> dict[str, np.ndarray]:
    shards = ShardSet.open(root / "out" / "train")
    assert len(shards) == 1
    return {name: shards.read(0, name) for name in shards.fields}


def write_tif(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array, **options)


def write_pil(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def turned_exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


INVERSE_GREYS = np.repeat((np.arange(256)[::-1] * 257).astype(np.uint16)[None], 3, 0)

SAME_PICTURE: dict[str, Any] = {
    "white": lambda path: write_tif(path.with_suffix(".tif"), 255 - GREY, photometric="miniswhite"),
    "palette": lambda path: write_tif(
        path.with_suffix(".tif"), 255 - GREY, photometric="palette", colormap=INVERSE_GREYS
    ),
    "turned tif": lambda path: write_tif(
        path.with_suffix(".tif"), stored_for(GREY, 6), extratags=[(274, "H", 1, 6, True)]
    ),
    "big-endian tiles": lambda path: write_tif(path.with_suffix(".tiff"), GREY, byteorder=">", tile=(16, 16)),
    "turned png": lambda path: write_pil(path.with_suffix(".png"), stored_for(GREY, 8), exif=turned_exif(8)),
    "mirrored webp": lambda path: write_pil(
        path.with_suffix(".webp"), stored_for(np.dstack([GREY] * 3), 2), exif=turned_exif(2), lossless=True
    ),
    "palette png": lambda path: Image.fromarray(GREY).convert("P").save(path.with_suffix(".png")),
    "opaque": lambda path: write_pil(path.with_suffix(".png"), np.dstack([GREY, np.full_like(GREY, 255)])),
    "bmp": lambda path: write_pil(path.with_suffix(".bmp"), GREY),
    "npy": lambda path: np.save(path.with_suffix(".npy"), np.asfortranarray(GREY)),
}


@pytest.mark.parametrize("kind", SAME_PICTURE)
def test_the_same_picture_stored_in_another_way_is_the_same(tmp_path: Path, kind: str) -> None:
    write_pil(tmp_path / "clean" / "a.png", GREY)
    (tmp_path / "noisy").mkdir()
    SAME_PICTURE[kind](tmp_path / "noisy" / "a")
    assert run(tmp_path, "--grey") == 0
    sample = only_sample(tmp_path)
    assert np.array_equal(sample["noisy"], GREY) and np.array_equal(sample["clean"], GREY)


def test_photographs_turned_by_exif_match_their_baked_references(tmp_path: Path) -> None:
    smooth = np.dstack([np.add.outer(np.arange(48) * 2, np.arange(64)).astype(np.uint8)] * 3)
    write_pil(tmp_path / "noisy" / "a.jpg", stored_for(smooth, 6), exif=turned_exif(6), quality=95)
    write_pil(tmp_path / "clean" / "a.jpg", smooth, quality=95)
    assert run(tmp_path) == 0
    sample = only_sample(tmp_path)
    assert np.corrcoef(sample["noisy"].ravel(), sample["clean"].ravel())[0, 1] > 0.999


@pytest.mark.parametrize("kind", ["white", "palette", "turned tif", "turned png", "opaque"])
def test_files_that_training_would_read_differently_are_not_stored_as_they_are(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pil(tmp_path / "clean" / "a.png", GREY)
    (tmp_path / "noisy").mkdir()
    SAME_PICTURE[kind](tmp_path / "noisy" / "a")
    code = run(tmp_path, "--encoded")
    if kind == "opaque":  # training drops an opacity too
        assert code == 0 and np.array_equal(only_sample(tmp_path)["noisy"], GREY)
    else:
        assert code == 4 and "cannot be stored as it is" in capsys.readouterr().err


def transparent() -> np.ndarray:
    image = np.dstack([RGB, np.full_like(GREY, 255)])
    image[7, 9, 3] = 100
    return image


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: write_pil(folder / "a.png", transparent()), "row 7, column 9"),
        (lambda folder: write_tif(folder / "a.tif", np.stack([GREY] * 5), photometric="minisblack"), "stack of 5"),
        (lambda folder: write_tif(folder / "a.tif", RGB, photometric="cielab"), "CIELAB is not supported"),
        (lambda folder: np.save(folder / "a.npy", np.array([{}], object)), "a.npy"),
        (lambda folder: np.save(folder / "a.npy", np.full((48, 64), np.nan)), "row 0, column 0 is NaN"),
        (lambda folder: write_tif(folder / "a.tif", GREY.astype("f4"), photometric="miniswhite"), "MINISWHITE"),
        (lambda folder: write_tif(folder / "a.tif", np.where(GREY > 9, GREY, np.float32("inf"))), "is Inf"),
        (
            lambda folder: write_tif(
                folder / "a.tif",
                np.where(GREY > 9, GREY, np.float32(-9999)),
                extratags=[(42113, "s", 6, "-9999", True)],
            ),
            "-9999, which the file declares to be no data",
        ),
        (lambda folder: write_pil(folder / "a.png", GREY[:20]), "is 48 x 64"),
    ],
)
def test_what_has_no_right_pixels_is_refused_by_name(
    tmp_path: Path, write: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pil(tmp_path / "clean" / "a.png", GREY)
    (tmp_path / "noisy").mkdir()
    write(tmp_path / "noisy")
    assert run(tmp_path, "--trust-data-range") == 4
    error = capsys.readouterr().err
    assert "noisy/a." in error and message in error and "Traceback" not in error


def test_bits_of_files_are_their_data_range(tmp_path: Path) -> None:
    deep = (GREY.astype(np.uint16) * 16) % 4096
    write_tif(tmp_path / "noisy" / "a.tif", deep, bitspersample=12)
    write_tif(tmp_path / "clean" / "a.tif", deep, bitspersample=12)
    assert run(tmp_path, "--data-range", "auto") == 0
    header = json.loads((tmp_path / "out" / "train" / "index.json").read_text("utf-8"))
    assert header["meta"]["data_range"] == pytest.approx(4095 / 65535)


def keyed(root: Path, *more: str) -> int:
    return run(root, "--layout", "keyed", "--input", str(root), *more, source="fastmri")


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (np.zeros(24), "odd: expected one slice (H, W), got shape (24,)"),
        (np.zeros((3, 20, 24), np.float32), "odd: expected one slice (H, W), got shape (3, 20, 24)"),
        (np.zeros((20, 24), bool), "odd: expected one slice"),
        (np.full((20, 24), np.nan, np.float32), "odd: row 0, column 0 is NaN"),
        (np.zeros((20, 24), [("x", "f4"), ("y", "i4")]), "odd: holds records of x, y"),
        (np.zeros((0, 24)), "odd: expected one slice"),
    ],
)
def test_an_odd_data_set_beside_slices_is_refused(
    tmp_path: Path, odd: np.ndarray, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for contrast in ("pd", "pdfs"):
        (tmp_path / contrast).mkdir()
        with h5py.File(tmp_path / contrast / "k.h5", "w") as file:
            file["0"], file["odd"] = np.ones((20, 24), np.float32), odd
    assert keyed(tmp_path) == 4
    error = capsys.readouterr().err
    assert "k.h5: " + message in error and "Traceback" not in error


def test_keyed_slices_of_every_number_type(tmp_path: Path) -> None:
    image = np.arange(20 * 24, dtype=np.float32).reshape(20, 24) / 480
    for contrast, stored in (("pd", image.astype(">f8")), ("pdfs", image[None].astype("f4"))):
        (tmp_path / contrast).mkdir()
        with h5py.File(tmp_path / contrast / "k.h5", "w") as file:
            file["0"], file["note"], file["scale"] = stored, "from the scanner", 2.0
    assert keyed(tmp_path) == 0
    sample = only_sample(tmp_path)
    assert np.array_equal(sample["pd"], image) and np.array_equal(sample["pdfs"], image)


def test_keyed_slices_of_other_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for contrast, side in (("pd", 24), ("pdfs", 20)):
        (tmp_path / contrast).mkdir()
        with h5py.File(tmp_path / contrast / "k.h5", "w") as file:
            file["0"] = np.ones((20, side), np.float32)
    assert keyed(tmp_path) == 4
    assert "slice 0: images of different sizes (pd 20 x 24, pdfs 20 x 20)" in capsys.readouterr().err


def ldct(root: Path, *more: str) -> int:
    return run(root, "--input", str(root / "in"), *more, source="ldct")


def write_dose(root: Path, dose: str, z: float, image: np.ndarray = PICTURE, **tags: Any) -> None:
    base = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "PixelSpacing": [0.7, 0.7]}
    write_dicom(root / "in" / f"L001_{dose}" / f"{z:+.3f}.dcm", image, z, **(base | tags))


def test_doses_whose_positions_are_rounded_differently_are_paired(tmp_path: Path) -> None:
    for clean, noisy in ((-0.001, 0.001), (1.0051, 1.0049), (2, 2)):
        write_dose(tmp_path, "full", clean)
        write_dose(tmp_path, "quarter", noisy)
    assert ldct(tmp_path) == 0
    shards = ShardSet.open(tmp_path / "out" / "train")
    assert sorted(shards.key(i) for i in range(len(shards))) == [f"L001-+0000{i}_0{i == 1:d}" for i in range(3)]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PixelSpacing": [0.6, 0.6]}, "spacing"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "plane"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1 with Hounsfield units"),
        ({"image": PICTURE[:, :9]}, "size 8 x 10 against 8 x 9 pixels"),
    ],
    ids=str,
)
def test_doses_of_other_places_are_refused(
    tmp_path: Path, tags: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for z in range(3):
        place: dict[str, Any] = {"ImagePositionPatient": [z, 0, 0]} if "ImageOrientationPatient" in tags else {}
        write_dose(tmp_path, "full", z)
        write_dose(tmp_path, "quarter", z, **tags, **place)
    assert ldct(tmp_path) == 4
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_a_copy_that_exif_turns_is_a_near_duplicate(tmp_path: Path) -> None:
    smooth = np.dstack([np.add.outer(np.arange(64) * 2, np.arange(64)).astype(np.uint8)] * 3)
    write_pil(tmp_path / "a.jpg", smooth)
    write_pil(tmp_path / "b.jpg", stored_for(smooth, 6), exif=turned_exif(6))
    write_tif(tmp_path / "c.tif", stored_for(smooth, 3), photometric="rgb", extratags=[(274, "H", 1, 3, True)])
    write_pil(tmp_path / "d.png", smooth[::-1])
    assert near_duplicates([tmp_path / name for name in ("a.jpg", "b.jpg", "c.tif", "d.png")], 0.95) == [0, 0, 0, 3]


def test_masks_of_true_and_false_are_stored_as_1_bit_images_are(tmp_path: Path) -> None:
    for field in ("noisy", "clean"):
        (tmp_path / field).mkdir()
        np.save(tmp_path / field / "a.npy", GREY > 100)
    assert run(tmp_path) == 0
    assert np.array_equal(only_sample(tmp_path)["noisy"], np.where(GREY > 100, 255, 0))
