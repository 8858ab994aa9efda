"""denoise.py on DICOM and NIfTI: the units of the builder, whole series, and what is refused."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from quell.launch import denoise
from quell.shards.sources.common.contrast_slices import UNITS
from tests.launch.inference.dicom_files import write_dicom
from tests.launch.inference.identity_runs import identity_run

RNG = np.random.default_rng(13)
VOLUME = RNG.integers(0, 3000, (5, 40, 30)).astype("<u2")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on slices of volumes that were divided by their 99.5th percentile, which returns its input."""
    return identity_run(tmp_path_factory.mktemp("scans"), to_stored=np.float32, source="nifti", units=UNITS)


@pytest.fixture(scope="module")
def hounsfield(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on CT in a window, which returns its input."""
    return identity_run(tmp_path_factory.mktemp("ct"), to_stored=np.float32, source="ldct", window_hu=[-1024.0, 3072.0])


@pytest.fixture(autouse=True)
def forget_training_log(scans: Path, hounsfield: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Discard what the trainings of the fixtures printed."""
    capsys.readouterr()


def restore(folder: Path, *arguments: object) -> int:
    """The exit code of denoise.py."""
    return denoise.main(["--run", str(folder), *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("scale", [1, 0.001, 10])
def test_nifti_of_any_scale_is_restored_as_its_builder_would_have_stored_it(
    scans: Path, tmp_path: Path, scale: float
) -> None:
    volume = VOLUME.transpose(1, 2, 0) * scale
    volume = volume.astype(np.int16 if scale == 1 else np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1, -1, 3, 1.0])), tmp_path / "a.nii.gz")
    assert restore(scans, tmp_path / "a.nii.gz", "--output", tmp_path / "out") == 0
    old, new = (nibabel.Nifti1Image.from_filename(folder / "a.nii.gz") for folder in (tmp_path, tmp_path / "out"))
    assert new.header == old.header
    np.testing.assert_allclose(new.get_fdata(), old.get_fdata(), rtol=1e-6)
    if scale == 1:
        assert gzip.decompress((tmp_path / "out" / "a.nii.gz").read_bytes()) == gzip.decompress(
            (tmp_path / "a.nii.gz").read_bytes()
        )


def test_a_folder_of_dicom_is_restored_slice_by_slice_in_the_units_of_its_series(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dark slice is not brightened: all slices are divided by the percentile of the series."""
    folder = tmp_path / "scan"
    (folder / "sub").mkdir(parents=True)
    volume = VOLUME.copy()
    volume[4] //= 50
    for number, pixels in enumerate(volume):
        name = "sub/IM_0005" if number == 4 else f"IM{number}.dcm"
        write_dicom(folder / name, pixels, InstanceNumber=None if number == 3 else number)
    (folder / "DICOMDIR").write_bytes(bytes(200))
    write_dicom(folder / "report.dcm", volume[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    report = pydicom.dcmread(folder / "report.dcm")
    del report.PixelData, report.Rows, report.Columns, report.BitsAllocated, report.BitsStored, report.HighBit
    del report.SamplesPerPixel, report.PhotometricInterpretation, report.PixelRepresentation
    report.save_as(folder / "report.dcm")
    assert restore(scans, folder, "--output", tmp_path / "out") == 0
    assert "left out: " in (error := capsys.readouterr().err) and "report.dcm" in error
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*IM*"))
    assert files == ["IM0.dcm", "IM1.dcm", "IM2.dcm", "IM3.dcm", "sub/IM_0005"]
    for number, file in enumerate(files):
        data = pydicom.dcmread(tmp_path / "out" / file)
        np.testing.assert_array_equal(data.pixel_array, volume[number])
        assert data.ImageType[0] == "DERIVED" and "identity" in data.DerivationDescription


def test_slices_of_different_echoes_have_scales_of_their_own(scans: Path, tmp_path: Path) -> None:
    for echo in (1, 2):
        for number in range(2):
            write_dicom(tmp_path / f"{echo}-{number}.dcm", VOLUME[number] // (1 if echo == 1 else 60), EchoNumbers=echo)
    assert restore(scans, tmp_path, "--output", tmp_path / "out") == 0


def test_ct_is_restored_in_the_window_of_its_builder(hounsfield: Path, tmp_path: Path) -> None:
    pixels = (VOLUME[0].astype("<i2") - 1000).astype("<i2")
    pixels[0, 0] = -2000
    tags = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0, "PixelPaddingValue": -2000}
    write_dicom(tmp_path / "a.dcm", pixels, **tags)
    assert restore(hounsfield, tmp_path / "a.dcm", "--output", tmp_path / "out") == 0
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "out" / "a.dcm").pixel_array, pixels)


def test_volumes_in_units_that_the_run_does_not_know_are_refused_with_the_numbers(
    hounsfield: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", VOLUME[0].astype(np.float32))
    assert restore(hounsfield, tmp_path / "a.npy", "--output", tmp_path / "out") == 4
    assert "times as bright" in capsys.readouterr().err


def test_files_that_are_no_grey_volumes_are_refused_in_one_sentence(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = np.zeros((40, 30, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    write_dicom(tmp_path / "short.dcm", VOLUME[0])
    content = (tmp_path / "short.dcm").read_bytes()
    (tmp_path / "short.dcm").write_bytes(content[:-900])
    hole = VOLUME.transpose(1, 2, 0).astype(np.float32)
    hole[3, 4, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(hole, np.eye(4)), tmp_path / "nan.nii")
    messages = {"rgb.nii.gz": "colour", "broken.nii.gz": "NIfTI", "short.dcm": "short.dcm", "nan.nii": "is NaN"}
    for name, message in messages.items():
        assert restore(scans, tmp_path / name, "--output", tmp_path / "out") == 4, name
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1 and "Traceback" not in error, error
    assert not (tmp_path / "out").exists()
