"""Sources that read image files, on generated files in the published layouts and on real images where available."""

import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from quell.configs.support.paths import ROOT
from quell.shards import build
from quell.shards.reading.shard_set import ShardSet
from quell.shards.sources.common import frame_registration
from quell.shards.verify import verify

DATA = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images at {DATA}; set QUELL_DATA")


def write_image(path: Path, seed: int, shape: tuple[int, ...] = (24, 30), smooth: float = 0) -> np.ndarray:
    """Write a random image, blurred by `smooth` pixels, and return it."""
    image = np.random.default_rng(seed).random(shape)
    if smooth:
        image = gaussian_filter(image, (smooth, smooth) + (0,) * (len(shape) - 2))
        image = (image - image.min()) / (image.max() - image.min())
    image = (image * 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, image)
    else:
        Image.fromarray(image).save(path)
    return image


def run(*arguments: object) -> int:
    return build.main([str(argument) for argument in arguments])


def keys_by_split(root: Path) -> dict[str, list[str]]:
    return {
        path.name: [ShardSet.open(path).key(i) for i in range(len(ShardSet.open(path)))]
        for path in sorted(root.iterdir())
        if path.is_dir()
    }


def test_folder_matches_by_name_and_by_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        write_image(tmp_path / "in" / f"a.{i}.png", i)
        write_image(tmp_path / "gt" / f"a.{i}.jpg", 10 + i)
        write_image(tmp_path / "mixed" / f"cam{i}_real.JPG", i, (24, 24, 3))
        write_image(tmp_path / "mixed" / f"cam{i}_mean.JPG", 10 + i, (24, 24, 3))
    fields = ["--field", f"noisy={tmp_path}/in", "--field", f"clean={tmp_path}/gt"]
    assert run("folder", *fields, "--output", tmp_path / "o", "--split", "3,1,1") == 0
    assert sorted(itertools.chain(*keys_by_split(tmp_path / "o").values())) == [f"a-{i}" for i in range(5)]
    fields = ["--field", f"noisy={tmp_path}/mixed/*_real.JPG", "--field", f"clean={tmp_path}/mixed/*_mean.JPG"]
    assert run("folder", *fields, "--output", tmp_path / "p", "--match", "(.+)_(real|mean)$", "--grey") == 0
    assert ShardSet.open(tmp_path / "p" / "train").fields["noisy"].channels == 1
    assert run("folder", *fields, "--output", tmp_path / "q") == 4
    assert "no clean image for" in capsys.readouterr().err.replace("no noisy image for", "no clean image for")
    (tmp_path / "in" / "a.4.png").unlink()
    fields = ["--field", f"noisy={tmp_path}/in", "--field", f"clean={tmp_path}/gt"]
    assert run("folder", *fields, "--output", tmp_path / "r") == 4
    assert run("folder", *fields, "--output", tmp_path / "r", "--allow-missing") == 0


def test_folder_reads_given_splits_and_stores_encoded_files(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for i in range(2):
            write_image(tmp_path / split / "in" / f"{i}.png", i + len(split))
    assert run("folder", "--field", f"noisy={tmp_path}/{{split}}/in", "--output", tmp_path / "o", "--encoded") == 0
    assert keys_by_split(tmp_path / "o") == {"test": ["0", "1"], "train": ["0", "1"]}
    shards = ShardSet.open(tmp_path / "o" / "test")
    assert shards.encodings[1].codec == "png" and shards.read(1, "noisy").shape == (24, 30)


def test_folder_keeps_groups_together_and_refuses_unusable_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scene in range(6):
        for i in range(3):
            write_image(tmp_path / "in" / f"s{scene}_{i}.png", scene * 3 + i)
    base = ["folder", "--field", f"x={tmp_path}/in"]
    assert run(*base, "--group", r"^(s\d+)_", "--split", "4,1,1", "--output", tmp_path / "o") == 0
    homes = {split: {key.split("_")[0] for key in keys} for split, keys in keys_by_split(tmp_path / "o").items()}
    assert sum(len(scenes) for scenes in homes.values()) == 6

    def refused(code: int, message: str, *arguments: object) -> None:
        assert run(*arguments, "--output", tmp_path / "x") == code
        assert message in capsys.readouterr().err

    refused(2, "expected NAME=FOLDER", "folder", "--field", "x")
    refused(2, "expected NAME=FOLDER", *base, "--field", f"x={tmp_path}/in")
    refused(4, "no such folder", "folder", "--field", f"x={tmp_path}/none/in")
    refused(4, "no images match *.gif", "folder", "--field", f"x={tmp_path}/in/*.gif")
    refused(2, "not a regular expression", *base, "--match", "(")
    refused(2, "error: (: not a regular expression", *base, "--group", "(")
    refused(4, "does not match q", *base, "--match", "q")
    refused(4, "the first group of (x)?s is empty in its name", *base, "--match", "(x)?s")
    refused(2, "expected three numbers", *base, "--split", "nan,1,1")
    refused(4, "s0_0.png: cannot be read (not UTF-8 text)", *base, "--split-file", tmp_path / "in" / "s0_0.png")
    refused(4, "have the same key s0", *base, "--match", "^s0|^s1|^s")
    (tmp_path / "in" / "s0_0.png").write_bytes(b"no image")
    refused(4, "s0_0.png: it is not an image", *base)
    write_image(tmp_path / "gt" / "s0_1.png", 1, (9, 9))
    refused(4, "s0_1.png is 9 x 9 but", *base, "--field", f"y={tmp_path}/gt", "--allow-missing")


def test_awgn_noise_has_the_right_level_and_depends_on_the_name(tmp_path: Path) -> None:
    for i in range(6):
        clean = write_image(tmp_path / "in" / f"{i}.png", i, (64, 64))
        write_image(tmp_path / "t" / f"{i}.png", 9 + i, (40, 48, 3))
    arguments = ["awgn", "--train", tmp_path / "in", "--test", tmp_path / "t", "--split", "5,1,0", "--second"]
    assert run(*arguments, "--output", tmp_path / "o") == 0
    splits = keys_by_split(tmp_path / "o")
    assert [len(splits[name]) for name in ("train", "val", "test")] == [5, 1, 6]
    shards = ShardSet.open(tmp_path / "o" / "train")
    noise = {name: shards.read(0, name) - shards.read(0, "clean") for name in ("noisy", "noisy_other")}
    assert all(abs(residual.std() * 255 - 25) < 1.5 for residual in noise.values()) and shards.meta["sigma"] == 25 / 255
    assert abs(np.corrcoef(noise["noisy"].ravel(), noise["noisy_other"].ravel())[0, 1]) < 0.06
    if "5" in splits["train"]:
        assert np.allclose(shards.read(splits["train"].index("5"), "clean"), clean / 255, atol=1e-6)
    assert ShardSet.open(tmp_path / "o" / "test").fields["noisy"].channels == 1  # colour became luminance
    # The noise depends on the name of the image, not on its position among the others.
    (tmp_path / "in" / "0.png").unlink()
    assert run(*arguments, "--output", tmp_path / "o2", "--split", "4,1,0") == 0
    rebuilt, positions = ShardSet.open(tmp_path / "o2" / "train"), keys_by_split(tmp_path / "o2")["train"]
    for key in set(positions) & set(splits["train"]):
        assert np.array_equal(
            rebuilt.read(positions.index(key), "noisy"), shards.read(splits["train"].index(key), "noisy")
        )


@pytest.mark.parametrize(
    ("noisy", "clean", "folders"),
    [
        ("raw-890", "reference-890", ""),
        ("input", "GT", ""),
        ("trainA", "trainB", ""),
        ("input", "GT", "train,test"),
        ("lrd", "hr", "train_val,TEST"),
    ],
)
def test_underwater_layouts(tmp_path: Path, noisy: str, clean: str, folders: str) -> None:
    for number, folder in enumerate(folders.split(",")):
        for i in range(12):
            for seed, name in enumerate((noisy, clean)):
                write_image(tmp_path / "in" / folder / name / f"{i}.png", 1000 * number + 10 * i + seed, (40, 48, 3), 2)
    assert run("underwater", "--input", tmp_path / "in", "--output", tmp_path / "o", "--split", "8,2,2") == 0
    sizes = {split: len(keys) for split, keys in keys_by_split(tmp_path / "o").items()}
    drawn = {"train": 10, "val": 2, "test": 12}  # of a published train and test split; 8,2 of the train split
    assert sizes == (drawn if folders else {"train": 8, "val": 2, "test": 2})
    report = verify(tmp_path / "o")
    assert report["errors"] == 0, report


def test_underwater_scenes_stay_in_one_split_and_sizes_must_match(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        scene = 1 if i < 6 else i  # six frames of one scene
        write_image(tmp_path / "in" / "input" / f"{i}.png", 50 + i, (40, 48, 3), 2)
        write_image(tmp_path / "in" / "GT" / f"{i}.png", scene, (40, 48, 3), 2)
    base = ["underwater", "--input", tmp_path / "in", "--split", "1,1,1"]
    assert run(*base, "--output", tmp_path / "o") == 0
    homes = [split for split, keys in keys_by_split(tmp_path / "o").items() if set(keys) & set("012345")]
    assert len(homes) == 1
    write_image(tmp_path / "in" / "input" / "7.png", 1, (20, 24, 3), 2)
    assert run(*base, "--output", tmp_path / "p") == 4
    assert "--fit resizes it" in capsys.readouterr().err
    assert run(*base, "--output", tmp_path / "f", "--fit") == 0
    assert run("underwater", "--input", tmp_path, "--output", tmp_path / "q") == 4
    assert "use the source `folder`" in capsys.readouterr().err


def duke28(root: Path, subjects: Iterable[int] = range(1, 7), frames: int = 2) -> None:
    for subject in subjects:
        for name in ("test", "average", *map(str, range(1, frames + 1))):
            write_image(root / str(subject) / f"{name}.tif", subject * 20 + len(name), (30, 36))


def test_oct_duke28_together_and_separate(tmp_path: Path) -> None:
    duke28(tmp_path / "in")
    base = ["oct", "--input", tmp_path / "in", "--split", "4,1,1"]
    assert run(*base, "--output", tmp_path / "o") == 0
    assert {split: len(keys) for split, keys in keys_by_split(tmp_path / "o").items()} == {
        "train": 4,
        "val": 1,
        "test": 1,
    }
    shards = ShardSet.open(tmp_path / "o" / "train")
    assert list(shards.fields) == ["clean", "noisy", "noisy_1", "noisy_2"] and shards.fields["noisy"].dtype == "uint8"
    subject = shards.key(0).split("-")[1]
    assert np.array_equal(shards.read(0, "clean"), tifffile.imread(tmp_path / "in" / subject / "average.tif"))
    assert np.array_equal(shards.read(0, "noisy"), tifffile.imread(tmp_path / "in" / subject / "test.tif"))
    assert run(*base, "--frames", "separate", "--output", tmp_path / "s") == 0
    keys = keys_by_split(tmp_path / "s")
    # Neighbouring frames show another location than the average: they are used for training only.
    assert len(keys["train"]) == 12 and len(keys["test"]) == 1 and keys["test"][0].endswith("-test")
    assert "noisy_other" in ShardSet.open(tmp_path / "s" / "train").fields


def test_oct_duke28_keeps_subjects_with_a_misplaced_average_out_of_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shipped list is the default for its subjects, others are drawn at random, and both options override it."""
    listed = {"train": {1, 4, 5, 7, 9, 12, 14, 16}, "val": {17}, "test": {2, 10, 13}}
    duke28(tmp_path / "in", sorted(set().union(*listed.values())), frames=0)

    def built(name: str, *options: object) -> dict[str, set[int]]:
        assert run("oct", "--input", tmp_path / "in", "--output", tmp_path / name, *options) == 0
        return {
            split: {int(key.split("-")[1]) for key in keys} for split, keys in keys_by_split(tmp_path / name).items()
        }

    assert built("o") == listed
    assert "duke_sdoct_split.csv" in capsys.readouterr().out
    assert "subjects as listed in shards/sources/duke_sdoct_split.csv" in (tmp_path / "o" / "dataset.md").read_text()
    drawn = built("drawn", "--split", "70,15,15")
    assert {split: len(subjects) for split, subjects in drawn.items()} == {"train": 8, "val": 2, "test": 2}
    assert "split:" not in capsys.readouterr().out + (tmp_path / "drawn" / "dataset.md").read_text()
    own = tmp_path / "own.csv"
    own.write_text("".join(f"subject-{n},{'val' if n == 2 else 'train'}\n" for n in range(1, 29)))
    assert built("own", "--split-file", own)["val"] == {2}
    duke28(tmp_path / "in", range(18, 29), frames=0)
    more = built("more")
    assert all(subjects < more[split] for split, subjects in listed.items())
    (
        tmp_path / "in" / "9" / "average.tif"
    ).unlink()  # another data set with this layout, to which the list does not apply
    assert run("oct", "--input", tmp_path / "in", "--output", tmp_path / "other", "--dry-run") == 0
    assert "split:" not in capsys.readouterr().out.rpartition("fields")[2]


def test_oct_duke17_pku37_and_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in range(1, 5):
        write_image(tmp_path / "d17" / str(subject) / f"{subject}_Raw Image.tif", subject)
        write_image(tmp_path / "d17" / str(subject) / f"{subject}_Averaged Image.tif", 10 + subject)
        write_image(tmp_path / "pku" / "clean" / f"{subject:04d}.tif", subject)
        for frame in range(1, 8):
            write_image(tmp_path / "pku" / "noisy" / f"{subject:04d}{frame:02d}.tif", 10 * subject + frame)
    assert run("oct", "--input", tmp_path / "d17", "--output", tmp_path / "o17", "--split", "2,1,1") == 0
    assert sum(map(len, keys_by_split(tmp_path / "o17").values())) == 4
    assert run("oct", "--input", tmp_path / "pku", "--output", tmp_path / "o37", "--split", "2,1,1") == 0
    keys = keys_by_split(tmp_path / "o37")
    assert len(keys["train"]) == 14 and len(keys["test"]) == 7
    shards = ShardSet.open(tmp_path / "o37" / "test")
    assert {shards.json(i)["group"] for i in range(7)} == {shards.json(0)["group"]}
    assert not np.array_equal(shards.read(0, "noisy"), shards.read(0, "noisy_other"))
    names = sorted((tmp_path / "pku" / "noisy").glob("*.tif"))[:8]
    clean = sorted((tmp_path / "pku" / "clean").glob("*.tif"))
    for name, paths in {"a": names[:4], "b": names[4:], "c": clean}.items():
        (tmp_path / "pku" / f"{name}.txt").write_text("\n".join(str(path) for path in paths) + "\n")
    lists = [tmp_path / "pku" / f"{name}.txt" for name in "abc"]
    assert run("oct", "--output", tmp_path / "x") == 2
    assert "give --input FOLDER or --lists" in capsys.readouterr().err
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe")
    assert run("oct", "--lists", *[tmp_path / "binary.txt"] * 3, "--output", tmp_path / "x") == 4
    assert "binary.txt: cannot be read (not UTF-8 text)" in capsys.readouterr().err
    assert run("oct", "--lists", *lists, "--output", tmp_path / "ol", "--split", "2,1,1") == 0
    assert sum(map(len, keys_by_split(tmp_path / "ol").values())) == 8
    assert ShardSet.open(tmp_path / "ol" / "train").meta["paired"] is False
    assert run("oct", "--input", tmp_path, "--output", tmp_path / "x") == 4
    write_image(tmp_path / "pku" / "noisy" / "999901.tif", 1)
    assert run("oct", "--input", tmp_path / "pku", "--output", tmp_path / "x") == 4
    assert "no clean/9999.tif" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [-5, 0, 3])
def test_registration_finds_a_known_shift(tmp_path: Path, rows: int) -> None:
    random = np.random.default_rng(0)
    tall = gaussian_filter(random.random((90, 80)), 2.5) * 20
    frame = tall[10:70] + 0.1 * random.standard_normal((60, 80))
    average = tall[10 - rows : 70 - rows]
    assert frame_registration.depth_shift(frame, average, 8) == rows
    cropped, shifts = frame_registration.align({"noisy": frame, "clean": average}, 8)
    assert shifts == {"noisy": rows} and cropped["noisy"].shape == cropped["clean"].shape == (60 - abs(rows), 80)
    assert np.corrcoef(cropped["noisy"].ravel(), cropped["clean"].ravel())[0, 1] > 0.9


@real
def test_real_oct_with_registration(tmp_path: Path) -> None:
    assert run("oct", "--input", DATA / "oct_duke_sdoct", "--output", tmp_path, "--register", "8") == 0
    rows = json.loads((tmp_path / "registration.json").read_text())
    assert len(rows) == 12 and rows["subject-16"]["noisy"] == 3 and rows["subject-1"]["noisy"] == 0
    report = verify(tmp_path)
    assert report["errors"] == 0 and report["splits"] == {"train": 8, "val": 1, "test": 3}
    shards = ShardSet.open(tmp_path / "train")
    errors = [
        np.square((shards.read(i, "noisy") / 255.0) - (shards.read(i, "clean") / 255.0)).mean()
        for i in range(len(shards))
    ]
    assert 17 < -10 * np.log10(np.mean(errors)) < 18.5


@real
def test_real_photographs_do_not_leak(tmp_path: Path) -> None:
    """Six references of this set are frames of one scene, which would be spread over the splits by name."""
    assert run("underwater", "--input", DATA / "underwater_pairs", "--output", tmp_path, "--encoded") == 0
    report = verify(tmp_path)
    assert report["errors"] == 0 and sum(report["splits"].values()) == 108, report["findings"]
