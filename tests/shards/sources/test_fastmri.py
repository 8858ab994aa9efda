"""The source fastmri, on generated files with fastMRI's schema: pairing, alignment, splits, complex images."""

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.shards import build
from quell.shards.image_files.fastmri import read_complex, read_description, read_magnitude
from quell.shards.reading.pixels.transforms import generator
from quell.shards.reading.shard_set import ShardSet
from quell.shards.sources.common.volume_pairing import best_alignment, edge_features
from quell.shards.sources.phantom import clean_pair

SIZE = 96
LEAST_SCORE = "0.27"
"""Generated knees have fewer edges than real ones, whose contrasts correlate at 0.9."""


def knee(number: int, slices: range) -> dict[str, np.ndarray]:
    """PD and PDFS slices of one generated knee, complex (slices, SIZE, SIZE), noisy."""
    random = np.random.default_rng(number)
    pairs = [clean_pair(generator(number, 0, i, 0), SIZE) for i in slices]
    noise = 0.03 * random.standard_normal((2, len(slices), SIZE, SIZE, 2)).view(complex)[..., 0]
    return {
        name: np.stack([pair[contrast] for pair in pairs]) + noise[contrast]
        for contrast, name in enumerate(("pd", "pdfs"))
    }


def write_scan(path: Path, images: np.ndarray, acquisition: str, patient: str, scale: float = 3e-4) -> None:
    """A single-coil file with the data sets and attributes that fastMRI's files have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = images.astype(np.complex64) * scale
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho"), axes=axes)
    with h5py.File(path, "w") as file:
        file["ismrmrd_header"] = b"<ismrmrdHeader/>"
        file["kspace"] = kspace.astype(np.complex64)
        file["reconstruction_esc"] = np.abs(images).astype(np.float32)
        file["reconstruction_rss"] = np.abs(images).astype(np.float32)
        file.attrs.update(
            acquisition=acquisition,
            patient_id=patient,
            max=float(np.abs(images).max()),
            norm=float(np.linalg.norm(images)),
        )


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four knees of two scans each; PDFS of knee 2 starts two slices later; a PD scan without a partner."""
    root = tmp_path_factory.mktemp("fastmri") / "singlecoil_train"
    for number in range(4):
        start = 2 if number == 2 else 0
        write_scan(root / f"file10{number}.h5", knee(number, range(6))["pd"], "CORPD_FBK", f"patient-{number}")
        write_scan(
            root / f"file20{number}.h5", knee(number, range(start, 7))["pdfs"], "CORPDFS_FBK", f"patient-{number}"
        )
    write_scan(root / "file300.h5", knee(9, range(5))["pd"], "CORPD_FBK", "patient-9")
    return root


def run(archive: Path, output: Path, *more: str) -> int:
    return build.main(
        [
            "fastmri",
            "--input",
            str(archive),
            "--output",
            str(output),
            "--split",
            "2,1,1",
            "--least-score",
            LEAST_SCORE,
            *more,
        ]
    )


def file_and_slice(shards: ShardSet, sample: int) -> tuple[int, int]:
    """The number of the knee that a sample was cut from, and the position of its slice."""
    notes: dict[str, Any] = shards.json(sample)
    return int(notes["pd_file"][-1]), int(notes["slice"])


def has_true_pairs(output: Path) -> bool:
    rows = json.loads((output / "pairing.json").read_text())["pairs"]
    return len(rows) == 4 and all(row["pd"][-1] == row["pdfs"][-1] for row in rows)


@pytest.mark.parametrize("rule", ["similarity", "patient"])
def test_volumes_are_paired_aligned_and_reported(archive: Path, tmp_path: Path, rule: str) -> None:
    assert run(archive, tmp_path, "--pair-by", rule) == 0
    assert has_true_pairs(tmp_path)
    notes = json.loads((tmp_path / "pairing.json").read_text())
    assert notes["left_over"] == ["file300"] and (tmp_path / "pairing.png").stat().st_size > 1000
    assert {row["pd"]: row["offset"] for row in notes["pairs"]} == {
        "file100": 0,
        "file101": 0,
        "file102": -2,
        "file103": 0,
    }
    if rule == "similarity":
        assert all(row["runner_up"] < row["score"] - 0.1 for row in notes["pairs"])
    patients: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        shards = ShardSet.open(tmp_path / split)
        patients[split] = {str(shards.json(i)["group"]) for i in range(len(shards))}
        assert "no redistribution" in str(shards.meta["licence"]) and shards.fields["pd"].dtype == "float32"
        for i in range(len(shards)):
            number, position = file_and_slice(shards, i)
            truth = np.abs(knee(number, range(position, position + 1))["pd"][0])
            assert np.corrcoef(truth.ravel(), shards.read(i, "pd").ravel())[0, 1] > 0.9
            assert shards.read(i, "pd").max() <= 1
            if number == 2:
                assert position >= 2
    assert (
        len(patients["train"]) == 2
        and not patients["train"] & patients["test"]
        and not patients["val"] & patients["test"]
    )


def test_the_csv_of_a_review_can_be_edited_and_used(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(archive, tmp_path, "--pair-by", "similarity", "--review") == 0
    assert not (tmp_path / "train").exists() and "4 pairs of 9 volumes" in capsys.readouterr().out
    rows = list(csv.reader((tmp_path / "pairing.csv").read_text().splitlines()))
    assert rows[0] == ["pd", "pdfs", "score"] and len(rows) == 5
    (tmp_path / "edited.csv").write_text("\n".join(",".join(row[:2]) for row in rows[1:3]))
    assert run(archive, tmp_path / "o", "--pair-by", "csv", "--pairs", str(tmp_path / "edited.csv")) == 0
    assert len(json.loads((tmp_path / "o" / "pairing.json").read_text())["pairs"]) == 2


def test_doubtful_pairs_are_refused_dropped_or_accepted(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.csv").write_text("pd,pdfs\nfile100,file200\nfile101,file203\nfile102,file202.h5\n")
    base = ("--pair-by", "csv", "--pairs", str(tmp_path / "wrong.csv"))
    assert run(archive, tmp_path / "a", *base) == 4
    message = capsys.readouterr().err
    assert "1 of 3 pairs are doubtful" in message and "file101 and file203" in message
    assert (tmp_path / "a" / "pairing.png").is_file() and not (tmp_path / "a" / "train").exists()
    assert run(archive, tmp_path / "b", *base, "--doubtful", "drop", "--split", "1,0,1") == 0
    assert run(archive, tmp_path / "c", *base, "--doubtful", "accept") == 0
    shards = [ShardSet.open(path) for path in sorted((tmp_path / "c").iterdir()) if path.is_dir()]
    groups = {(split.json(i)["pd_file"], split.json(i)["group"]) for split in shards for i in range(len(split))}
    assert ("file101", "patient-1") in groups  # patients 1 and 3 meet in a pair and form one group


def test_complex_images_from_kspace(archive: Path, tmp_path: Path) -> None:
    assert run(archive, tmp_path, "--pair-by", "patient", "--complex") == 0
    shards = ShardSet.open(tmp_path / "train")
    image, (number, position) = shards.read(0, "pd"), file_and_slice(shards, 0)
    truth = knee(number, range(6))["pd"]
    assert image.dtype == np.complex64
    assert np.allclose(image, truth[position] / np.abs(truth).max(), atol=1e-3)


def test_oversampled_kspace_is_cropped_to_the_centre(tmp_path: Path) -> None:
    inner = np.random.default_rng(0).standard_normal((1, 320, 320)) + 0j
    padded = np.zeros((1, 640, 368), complex)
    padded[:, 160:480, 24:344] = inner
    write_scan(tmp_path / "f.h5", padded, "CORPD_FBK", "p", scale=1)
    assert np.allclose(read_complex(tmp_path / "f.h5"), inner, atol=1e-4)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file["reconstruction_rss"], file["reconstruction_esc"]
    assert np.allclose(read_magnitude(tmp_path / "f.h5"), np.abs(inner), atol=1e-4)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        coils = np.stack([file["kspace"][()], 2 * file["kspace"][()]], axis=1)
        del file["kspace"]
        file["kspace"] = coils
    assert np.allclose(read_magnitude(tmp_path / "f.h5"), np.sqrt(5) * np.abs(inner), atol=1e-3)


def test_unusable_inputs_are_refused(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(code: int, message: str, folder: Path, *more: str) -> None:
        assert run(folder, tmp_path / "x", *more) == code
        assert message in capsys.readouterr().err

    refused(2, "does not mark pairs", archive)
    refused(2, "does not mark pairs", archive, "--pair-by", "csv")
    refused(4, "no such folder", tmp_path / "none", "--pair-by", "patient")
    (tmp_path / "empty").mkdir()
    refused(4, "no .h5 files", tmp_path / "empty", "--pair-by", "patient")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "f.h5").write_bytes(b"junk")
    refused(4, "f.h5: not a readable HDF5", tmp_path / "bad", "--pair-by", "patient")
    with h5py.File(tmp_path / "bad" / "f.h5", "w") as file:
        file["other"] = np.ones(3)
    refused(4, "not a fastMRI file", tmp_path / "bad", "--pair-by", "patient")
    (tmp_path / "p.csv").write_text("pd,pdfs\nfile100,nothing\n")
    refused(4, "line 2", archive, "--pair-by", "csv", "--pairs", str(tmp_path / "p.csv"))
    with h5py.File(tmp_path / "bad" / "f.h5", "w") as file:
        file["kspace"] = np.ones((2, 3, 8, 8), np.complex64)
        file.attrs.update(acquisition="CORPD_FBK", patient_id="p")
    refused(4, "no pair of a PD", tmp_path / "bad", "--pair-by", "similarity")
    with pytest.raises(DataError, match="3 coils"):
        read_complex(tmp_path / "bad" / "f.h5")


def test_splits_by_folder(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    for number, folder in enumerate(("singlecoil_train", "singlecoil_val")):
        for prefix in (1, 2):
            name = f"file{prefix}0{number}.h5"
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / name).symlink_to(archive / name)
    assert run(root, tmp_path / "o", "--pair-by", "patient", "--by-folder") == 0
    assert ShardSet.open(tmp_path / "o" / "val").json(0)["pd_file"] == "file101"


def test_the_keyed_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Complex, two-channel and (1, H, W) slices; clean images in a group and in a sibling folder."""
    images = knee(1, range(3))
    for split in ("train", "val"):
        for name, folder in (("pd", "PD"), ("pdfs", "pdfs")):
            path = tmp_path / "in" / split / folder / f"case{split}.h5"
            path.parent.mkdir(parents=True)
            with h5py.File(path, "w") as file:
                file["s0"] = images[name][0][None]
                file["s1"] = np.stack([images[name][1].real, images[name][1].imag], axis=-1)
                file[f"only_{name}"] = images[name][2]
                if name == "pd":
                    file.create_group("pd_gt")["s0"] = file["pd_gt/s1"] = images[name][0]
        sibling = tmp_path / "in" / split / "pdfs_clean" / f"case{split}.h5"
        sibling.parent.mkdir()
        with h5py.File(sibling, "w") as file:
            file["s0"] = file["s1"] = images["pdfs"][0]
    arguments = ["fastmri", "--layout", "keyed", "--output", str(tmp_path / "o"), "--input"]
    assert build.main([*arguments, str(tmp_path / "in")]) == 0
    shards = ShardSet.open(tmp_path / "o" / "train")
    assert [shards.key(i) for i in range(len(shards))] == ["casetrain-s0", "casetrain-s1"]
    assert set(shards.fields) == {"pd", "pdfs", "pd_clean", "pdfs_clean"}
    assert np.allclose(shards.read(1, "pdfs"), images["pdfs"][1]) and shards.fields["pd"].dtype == "complex64"
    assert build.main([*arguments, str(tmp_path)]) == 4
    assert "expected the folders pd and pdfs" in capsys.readouterr().err


def test_scores_separate_true_pairs_from_others(archive: Path) -> None:
    volumes = [read_description(path) for path in sorted(archive.glob("*.h5"))]
    edges = [edge_features(volume) for volume in volumes if volume.path.stem != "file300"]
    scores = np.array([[best_alignment(a, b)[0] for b in edges[4:]] for a in edges[:4]])
    assert scores.diagonal().min() > 0.3 and (scores - 9 * np.eye(4)).max() < 0.2, scores
