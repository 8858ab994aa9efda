"""The phantom and the real knee: physics, noise, splits, reproducible bytes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from quell.configs.support.paths import ROOT
from quell.shards import build
from quell.shards.reading.pixels.transforms import generator
from quell.shards.reading.shard_set import ShardSet
from quell.shards.sources import knee_mese, phantom
from quell.shards.sources.common.knee_anatomy import TISSUES, fractions
from quell.shards.verify import verify

KNEE = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data")) / "knee_mese"


def build_phantom(folder: Path, *more: str) -> Path:
    assert (
        build.main(
            ["phantom", "--output", str(folder), "--size", "64", "--train", "6", "--val", "2", "--test", "3", *more]
        )
        == 0
    )
    return folder


def test_splits_fields_and_noise(tmp_path: Path) -> None:
    build_phantom(tmp_path, "--sigma", "0.2", "--second")
    for name, count in {"train": 6, "val": 2, "test": 3}.items():
        shards = ShardSet.open(tmp_path / name)
        assert len(shards) == count and shards.meta["sigma"] == 0.2 and shards.meta["data_range"] == 1.0
        assert set(shards.fields) == {f"{c}{s}" for c in ("pd", "pdfs") for s in ("", "_clean", "_second")}
        for i in range(count):
            clean = shards.read(i, "pd_clean")
            noise = [
                shards.read(i, name) - shards.read(i, f"{name.split('_')[0]}_clean")
                for name in ("pd", "pd_second", "pdfs", "pdfs_second")
            ]
            for residual in noise:
                assert residual.real.std() == pytest.approx(0.2, rel=0.06) and residual.imag.std() == pytest.approx(
                    0.2, rel=0.06
                )
            correlation = np.corrcoef(
                [residual.real.ravel() for residual in noise] + [residual.imag.ravel() for residual in noise]
            )
            assert np.abs(correlation - np.eye(8)).max() < 0.08
            assert clean.dtype == np.complex64 and 0.7 < np.abs(clean).max() < 1.6
            assert np.abs(clean)[np.abs(clean) > 0.05].std() > 0.1


def test_verify_reports_no_problems(tmp_path: Path) -> None:
    report = verify(build_phantom(tmp_path, "--train", "12"))
    assert report["errors"] == report["warnings"] == 0, report["findings"]


def test_anatomies_differ_between_samples_and_splits(tmp_path: Path) -> None:
    build_phantom(tmp_path)
    images = [
        np.abs(ShardSet.open(tmp_path / name).read(i, "pd_clean"))
        for name in ("train", "val", "test")
        for i in range(2)
    ]
    correlation = np.corrcoef([image.ravel() for image in images])
    assert (correlation - np.eye(6)).max() < 0.97


def test_the_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    a, b, c = (
        build_phantom(tmp_path / name, "--seed", seed) / "val" / "phantom-000000.tar"
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert a.read_bytes() == b.read_bytes() != c.read_bytes()


def test_magnitude_is_real_and_positive(tmp_path: Path) -> None:
    shards = ShardSet.open(build_phantom(tmp_path, "--magnitude") / "test")
    image = shards.read(0, "pdfs")
    assert image.dtype == np.float32 and image.min() >= 0 and "rician" in str(shards.meta["noise"])


def test_signals_follow_the_physics() -> None:
    pd = {name: phantom.signal(tissue, phantom.PD_TIMES_MS, 1.0) for name, tissue in phantom.PROPERTIES.items()}
    pdfs = {
        name: phantom.signal(tissue, phantom.PDFS_TIMES_MS, phantom.FAT_LEFT)
        for name, tissue in phantom.PROPERTIES.items()
    }
    assert pd["fat"] > pd["muscle"] > pd["meniscus"] > pd["cortex"] > pd["air"] == 0
    assert pdfs["fat"] < 0.2 * pd["fat"] and pdfs["fluid"] == max(pdfs.values())
    assert pdfs["oedema"] > 2 * pdfs["marrow"]  # the purpose of fat suppression
    # Computed by hand for water alone: 0.8 (1 - 2 exp(-2786.5/1420) + exp(-2800/1420)) exp(-27/32) = 0.2953
    muscle = phantom.Tissue(0.8, 1420.0, 32.0, 0.0)
    assert phantom.signal(muscle, phantom.PD_TIMES_MS, 1.0) == pytest.approx(0.2953, abs=2e-4)


def test_fractions_sum_to_one() -> None:
    parts = fractions(generator(0, 0, 0, 0), 48)
    assert parts.shape == (len(TISSUES), 48, 48) and parts.min() >= 0
    assert np.allclose(parts.sum(0), 1) and (parts.max(axis=(1, 2)) > 0.2).sum() >= 8


def test_unknown_source_and_existing_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["phantm", "--output", str(tmp_path)]) == 2
    assert "did you mean 'phantom'" in capsys.readouterr().err
    build_phantom(tmp_path)
    build_phantom(tmp_path)  # a complete split is left as it is
    assert build.main(["phantom", "--output", str(tmp_path)]) == 4
    assert "built from other input" in capsys.readouterr().err


@pytest.mark.skipif(not KNEE.is_dir(), reason=f"the real knee is not at {KNEE}; set QUELL_DATA")
def test_real_knee(tmp_path: Path) -> None:
    assert build.main(["knee_mese", "--input", str(KNEE), "--output", str(tmp_path)]) == 0
    numbers = {}
    for name in ("train", "val", "test"):
        shards = ShardSet.open(tmp_path / name)
        numbers[name] = [shards.json(i)["slice"] for i in range(len(shards))]
        for i in range(len(shards)):
            for field in ("pd", "pdfs"):
                error = shards.read(i, field) - shards.read(i, f"{field}_clean")
                assert -10 * np.log10(np.square(error).mean()) == pytest.approx(20.0, abs=0.1)
        assert shards.fields["pd"].dtype == "float32" and shards.fields["pd"].shape == (256, 256)
    assert numbers == {"train": list(range(12)), "val": [13], "test": [15, 16, 17]}


def test_knee_from_a_generated_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same source on a small file with the same layout, which needs no data."""
    volume = np.random.default_rng(0).integers(0, 900, (18, 8, 12, 14), dtype=np.int16)
    np.savez(tmp_path / "generated.npz", vol=volume, echo_time_ms=np.arange(8))
    arguments = ["knee_mese", "--input", str(tmp_path / "generated.npz"), "--sigma", "0", "--output"]
    assert build.main([*arguments, str(tmp_path / "out")]) == 0
    shards = ShardSet.open(tmp_path / "out" / "test")
    top = np.percentile(volume[:, 7], 99.5)
    assert np.allclose(shards.read(2, "pdfs"), volume[17, 7] / top) and len(shards) == 3
    assert json.loads((tmp_path / "out" / "test" / "index.json").read_text())["meta"]["licence"] == "MIT"
    np.savez(tmp_path / "bad.npz", other=volume)
    assert build.main(["knee_mese", "--input", str(tmp_path / "bad.npz"), "--output", str(tmp_path / "x")]) == 4
    assert "expected an .npz" in capsys.readouterr().err


@pytest.fixture
def volume_file(tmp_path: Path) -> Path:
    """A multi-echo volume of smooth slices."""
    y, x = np.mgrid[:64, :64]
    slices = [1000 * (1 + np.sin(x / 5 + n) * np.cos(y / 7)) for n in range(18)]
    volume = np.stack([np.stack([image * (1 + echo / 10) for echo in range(8)]) for image in slices])
    np.savez(tmp_path / "generated.npz", vol=volume.astype(np.int16))
    return tmp_path / "generated.npz"


def knee(volume_file: Path, output: Path, *options: str) -> dict[str, np.ndarray]:
    """The first training sample of a build."""
    assert build.main(["knee_mese", "--input", str(volume_file), "--output", str(output), *options]) == 0
    shards = ShardSet.open(output / "train")
    return {name: shards.read(0, name) for name in shards.fields}


def test_knee_noise_can_be_real_complex_or_rician(volume_file: Path, tmp_path: Path) -> None:
    gaussian, complex_, rician = (
        knee(volume_file, tmp_path / kind, "--noise", kind) for kind in ("gaussian", "complex", "rician")
    )
    assert complex_["pd"].dtype == complex_["pd_clean"].dtype == np.complex64
    noise = complex_["pdfs"] - complex_["pdfs_clean"]
    assert noise.real.std() == pytest.approx(0.1, rel=0.05) and noise.imag.std() == pytest.approx(0.1, rel=0.05)
    assert rician["pdfs"].dtype == np.float32
    np.testing.assert_allclose(rician["pdfs"], np.abs(complex_["pdfs"]), atol=1e-6)
    np.testing.assert_allclose(complex_["pdfs"].real, gaussian["pdfs"], atol=1e-6)
    np.testing.assert_array_equal(rician["pd_clean"], gaussian["pd_clean"])


def test_the_second_contrast_of_the_knee_can_be_shifted_by_a_fraction_of_a_pixel(
    volume_file: Path, tmp_path: Path
) -> None:
    unshifted, half, full = (
        knee(volume_file, tmp_path / px, "--shift", px, "--sigma", "0") for px in ("0", "0.5", "1")
    )
    for moved in (half, full):
        np.testing.assert_array_equal(moved["pd"], unshifted["pd"])
    np.testing.assert_allclose(full["pdfs"], np.roll(unshifted["pdfs"], 1, axis=1), atol=1e-5)
    twice = knee_mese.shift_columns(half["pdfs"][None], 0.5)[0]
    np.testing.assert_allclose(twice[:, 8:-8], full["pdfs"][:, 8:-8], atol=0.02)
    assert np.abs(half["pdfs"] - unshifted["pdfs"]).max() > 0.01
