"""Sources that read volumes and arrays, on generated files with the published layouts, and the generated data sets."""

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from quell.shards import build
from quell.shards.reading.shard_set import ShardSet
from quell.shards.verify import verify

CT = pydicom.uid.UID("1.2.840.10008.5.1.4.1.1.2")


def run(*arguments: object) -> int:
    return build.main([str(argument) for argument in arguments])


def read_all(root: Path) -> dict[str, dict[str, Any]]:
    """Key -> fields, notes and split, over all splits."""
    samples = {}
    for path in sorted(root.iterdir()):
        if path.is_dir():
            shards = ShardSet.open(path)
            for i in range(len(shards)):
                samples[shards.key(i)] = {
                    "split": path.name,
                    "notes": shards.json(i),
                    **{name: shards.read(i, name) for name in shards.fields},
                }
    return samples


def write_dicom(path: Path, image: np.ndarray, position_mm: float, patient: str, series: str) -> None:
    """A CT slice with slope 1 and intercept -1024."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CT, pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(path)])
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.SeriesInstanceUID, data.Modality = patient, series, "CT"
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, position_mm], [1, 0, 0, 0, 1, 0]
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = (image + 1024).astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def hounsfield(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1500, (20, 24))


def test_ldct_pairs_dicom_slices_by_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """AAPM's folders and names; slices pair by position although file names and orders differ."""
    for patient in ("L067", "L096", "L109"):
        for number in range(4):
            image = hounsfield(int(patient[1:]) * 10 + number)
            home = tmp_path / "in" / patient
            write_dicom(
                home / "full_1mm" / f"{patient}_FD_1_1.CT.0001.{number:04d}.IMA", image, number * 1.5, patient, "1.3"
            )
            write_dicom(
                home / "quarter_1mm" / f"{patient}_QD_1_1.CT.0001.{9 - number:04d}.IMA",
                image + 7,
                number * 1.5,
                patient,
                "1.4",
            )
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "o", "--split", "1,1,1") == 0
    samples = read_all(tmp_path / "o")
    assert len(samples) == 12 and {sample["notes"]["group"] for sample in samples.values()} == {"L067", "L096", "L109"}
    for sample in samples.values():
        assert np.allclose((sample["noisy"] - sample["clean"]) * 4096, 7, atol=1e-3)
    homes = {(sample["notes"]["group"], sample["split"]) for sample in samples.values()}
    assert len(homes) == 3 and verify(tmp_path / "o")["errors"] == 0
    first = samples["L067-+00000_00"]
    assert np.allclose(first["clean"] * 4096 - 1024, hounsfield(670), atol=1e-3)
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "x", "--window", "5,1") == 2
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "x", "--window", "nan,1") == 2
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "x", "--patient", "(X)") == 4
    assert "none in both doses" in capsys.readouterr().err
    (tmp_path / "in" / "L067" / "full_1mm" / "L067_FD_x.IMA").write_bytes(b"junk")
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "x") == 4
    assert "not a readable DICOM" in capsys.readouterr().err


def test_ldct_pairs_images_by_name(tmp_path: Path) -> None:
    for patient in ("L067", "L096"):
        for number in range(2):
            for dose, more in (("FD", 0), ("QD", 5)):
                path = tmp_path / "in" / f"{patient}_{dose}_{number}.tif"
                path.parent.mkdir(exist_ok=True)
                tifffile.imwrite(path, (hounsfield(number) + 1024 + more).astype(np.uint16))
    assert run("ldct", "--input", tmp_path / "in", "--output", tmp_path / "o", "--split", "1,0,1") == 0
    samples = read_all(tmp_path / "o")
    assert sorted(samples) == ["L067-L067-0", "L067-L067-1", "L096-L096-0", "L096-L096-1"]
    assert (samples["L067-L067-0"]["noisy"] - samples["L067-L067-0"]["clean"] == 5).all()


def test_dicom_contrasts_are_paired_by_position(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two contrasts of three patients; one contrast has a slice more, and its files are in another order."""
    for patient in ("a", "b", "c"):
        for number in range(4):
            image = hounsfield(ord(patient) * 10 + number) + 1100
            write_dicom(
                tmp_path / "pd" / patient / f"{number}.dcm", image, number * 3.0, patient, f"1.{ord(patient)}.1"
            )
            write_dicom(
                tmp_path / "fs" / patient / f"{9 - number}.dcm",
                image // 2,
                number * 3.0 + 0.2,
                patient,
                f"1.{ord(patient)}.2",
            )
        write_dicom(tmp_path / "fs" / patient / "extra.dcm", hounsfield(1) + 1100, 30.0, patient, f"1.{ord(patient)}.2")
    base = ["dicom", "--field", f"pd={tmp_path}/pd", "--field", f"pdfs={tmp_path}/fs", "--split", "1,1,1"]
    assert run(*base, "--output", tmp_path / "o") == 0
    samples = read_all(tmp_path / "o")
    assert sorted(samples) == [f"{patient}-{number:03d}" for patient in "abc" for number in range(4)]
    sample = samples["b-002"]
    scales = sample["notes"]["scales"]
    truth = hounsfield(ord("b") * 10 + 2) + 1100
    assert np.allclose(sample["pd"] * scales["pd"], truth, rtol=1e-4)
    assert np.allclose(sample["pdfs"] * scales["pdfs"], truth // 2, rtol=1e-4)
    write_dicom(tmp_path / "pd" / "a" / "other.dcm", hounsfield(2) + 1100, 0.0, "a", "9.9")
    assert run(*base, "--output", tmp_path / "x") == 4
    assert "patient a has 2 series" in capsys.readouterr().err


def write_nifti(path: Path, volume: np.ndarray, shift: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1, 2, 1])
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def test_nifti_contrasts_are_matched_scaled_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject in range(4):
        volume = np.random.default_rng(subject).random((12, 14, 5)).astype(np.float32) + 0.2
        volume[:, :, 4] = 0  # an empty slice
        write_nifti(tmp_path / "t1" / f"sub-{subject}_T1w.nii.gz", volume)
        write_nifti(tmp_path / "t2" / f"sub-{subject}_T2w.nii", volume * 3)
    base = ["nifti", "--field", f"pd={tmp_path}/t1", "--field", f"pdfs={tmp_path}/t2", "--split", "2,1,1"]
    assert run(*base, "--match", r"(sub-\d+)", "--output", tmp_path / "o") == 0
    samples = read_all(tmp_path / "o")
    assert len(samples) == 16 and samples["sub-0-000"]["pd"].shape == (12, 14)
    assert np.allclose(samples["sub-3-001"]["pd"], samples["sub-3-001"]["pdfs"], rtol=1e-5)
    assert run(*base, "--match", r"(sub-\d+)", "--axis", "0", "--output", tmp_path / "p") == 0
    assert read_all(tmp_path / "p")["sub-0-000"]["pd"].shape == (14, 5)
    assert run(*base, "--output", tmp_path / "x") == 4
    assert "lack a partner" in capsys.readouterr().err
    write_nifti(tmp_path / "t2" / "sub-1_T2w.nii", np.ones((12, 14, 5), np.float32), shift=4)
    assert run(*base, "--match", r"(sub-\d+)", "--output", tmp_path / "x") == 4
    assert "register the contrasts first" in capsys.readouterr().err
    write_nifti(tmp_path / "t2" / "sub-1_T2w.nii", np.ones((12, 14, 6), np.float32))
    assert run(*base, "--match", r"(sub-\d+)", "--output", tmp_path / "x") == 4
    assert "contrasts of one shape" in capsys.readouterr().err
    (tmp_path / "t2" / "sub-1_T2w.nii").write_bytes(b"junk")
    assert run(*base, "--match", r"(sub-\d+)", "--output", tmp_path / "x") == 4
    assert "not a readable NIfTI" in capsys.readouterr().err


def test_arrays_are_grouped_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = np.random.default_rng(0).random((10, 12, 16)).astype(np.float32)
    np.save(tmp_path / "n.npy", noisy)
    np.savez(tmp_path / "c.npz", clean=noisy / 2, other=noisy)
    base = ["arrays", "--data-range", 1, "--group-size", 3, "--split", "2,1,1", "--field", f"noisy={tmp_path}/n.npy"]
    assert run(*base, "--field", f"clean={tmp_path}/c.npz:clean", "--output", tmp_path / "o") == 0
    samples = read_all(tmp_path / "o")
    assert len(samples) == 10 and len({sample["notes"]["group"] for sample in samples.values()}) == 4
    assert np.array_equal(samples["g00002-000007"]["clean"], noisy[7] / 2)

    def refused(code: int, message: str, *more: object) -> None:
        assert run(*base, *more, "--output", tmp_path / "x") == code
        assert message in capsys.readouterr().err

    refused(4, "name one, as in FILE.npz:KEY", "--field", f"c={tmp_path}/c.npz")
    refused(4, "cannot be read as an array", "--field", f"c={tmp_path}/c.npz:none")
    refused(4, "none.npy: no such file", "--field", f"c={tmp_path}/none.npy")
    for name in ("empty.npy", "cut.npz"):
        (tmp_path / name).write_bytes((tmp_path / "c.npz").read_bytes()[: 100 if name == "cut.npz" else 0])
        refused(4, f"{name}: cannot be read as an array", "--field", f"c={tmp_path}/{name}")
    np.save(tmp_path / "short.npy", noisy[:4])
    refused(4, "different length", "--field", f"c={tmp_path}/short.npy")
    np.save(tmp_path / "narrow.npy", noisy[:, :, :15])
    refused(4, "narrow.npy has 12 x 15", "--field", f"c={tmp_path}/narrow.npy")
    np.save(tmp_path / "huge.npy", noisy.astype(np.float64) * 1e300)
    refused(4, "single precision", "--field", f"c={tmp_path}/huge.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(4, "pipe.npy: not a regular file", "--field", f"c={tmp_path}/pipe.npy")
    np.save(tmp_path / "flat.npy", noisy[0])
    refused(4, "expected (N, H, W)", "--field", f"c={tmp_path}/flat.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(4, "cannot be read as an array", "--field", f"c={tmp_path}/objects.npy")


def test_oct_synthetic_frames_have_independent_speckle(tmp_path: Path) -> None:
    arguments = ["oct_synthetic", "--size", 96, "--train", 4, "--val", 1, "--test", 2, "--frames", 3]
    assert run(*arguments, "--output", tmp_path) == 0
    assert verify(tmp_path)["errors"] == 0
    for sample in read_all(tmp_path).values():
        errors = [sample[name] - sample["clean"] for name in ("noisy", "noisy_other", "noisy_2")]
        assert all(0.05 < error.std() < 0.2 and abs(error.mean()) < 0.01 for error in errors)
        assert np.abs(np.corrcoef([error.ravel() for error in errors]) - np.eye(3)).max() < 0.1
        assert sample["noisy"].min() >= 0 and sample["clean"].max() <= 1 and sample["clean"].std() > 0.1


def test_underwater_synthetic_attenuates_red_most(tmp_path: Path) -> None:
    assert run("underwater_synthetic", "--scenes", 6, "--size", 64, "--split", "4,1,1", "--output", tmp_path / "o") == 0
    samples = read_all(tmp_path / "o")
    for sample in samples.values():
        red, green, blue = (sample["noisy"][..., i].mean() / sample["clean"][..., i].mean() for i in range(3))
        assert red < 0.85 * green and red < 0.85 * blue and sample["noisy"].dtype == np.uint8
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(samples[sorted(samples)[i]]["clean"]).save(tmp_path / "in" / f"{i}.png")
    arguments = ["underwater_synthetic", "--input", tmp_path / "in", "--split", "1,1,1", "--output", tmp_path / "p"]
    assert run(*arguments) == 0 and len(read_all(tmp_path / "p")) == 3
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "in" / "grey.png")
    assert run(*arguments[:-1], tmp_path / "q") == 4
