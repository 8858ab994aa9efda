"""The noise model: spectra keep their correlation length at any size, maps their level, files their content."""

from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel

KERNEL = np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
"""Binomial kernel: the correlation with the next pixel is (1*2 + 2*1) / (1 + 4 + 1) = 2 / 3."""


def test_the_correlation_of_filtered_noise_is_that_of_its_kernel() -> None:
    noise = FieldNoise(0.1, spectrum_of_kernel(KERNEL))
    assert noise.correlation(0, 1) == pytest.approx(2 / 3)
    assert noise.correlation(0, 2) == pytest.approx(1 / 6)
    assert noise.correlation_length() == (2, 2)
    assert not noise.is_white and noise.kind == "spectrum"


@pytest.mark.parametrize("shape", [(33, 48), (64, 64), (97, 200)])
def test_the_spectrum_keeps_its_correlation_at_any_size(shape: tuple[int, int]) -> None:
    noise = FieldNoise(0.1, spectrum_of_kernel(KERNEL))
    correlation = np.fft.ifft2(noise.spectrum_at(*shape)).real
    assert correlation[0, 0] == pytest.approx(1)
    assert correlation[0, 1] == pytest.approx(2 / 3, abs=1e-6)
    assert correlation[2, 2] == pytest.approx(1 / 36, abs=1e-6)


def test_samples_have_the_level_and_the_correlation_of_the_model() -> None:
    noise = FieldNoise(0.1, spectrum_of_kernel(KERNEL))
    sample = noise.sample(np.random.default_rng(0), (512, 512))
    assert sample.std() == pytest.approx(0.1, rel=0.02)
    assert np.corrcoef(sample[:, :-1].ravel(), sample[:, 1:].ravel())[0, 1] == pytest.approx(2 / 3, abs=0.02)


def test_a_map_is_stretched_and_keeps_its_root_mean_square() -> None:
    ramp = np.linspace(0.5, 2, 16)[None].repeat(16, 0)
    stretched = FieldNoise(0.1, level_map=ramp).map_at(40, 64)
    assert np.sqrt(np.mean(stretched**2)) == pytest.approx(0.1)
    assert stretched[0, -1] / stretched[0, 0] == pytest.approx(4, rel=0.01)


def test_white_noise_needs_no_arrays() -> None:
    noise = FieldNoise(0.2)
    assert noise.kind == "white" and noise.correlation_length() == (0, 0)
    assert (noise.filter_at(5, 7) == 1).all() and (noise.map_at(5, 7) == 0.2).all()


def test_a_saved_model_is_read_back(tmp_path: Path) -> None:
    model = NoiseModel(
        {"pd": FieldNoise(0.1, spectrum_of_kernel(KERNEL), np.ones((4, 4))), "pdfs": FieldNoise(0.2, gain=0.5)},
        "repeats",
        {"pairs": "12"},
    )
    model.save(tmp_path / "noise.npz")
    read = NoiseModel.load(tmp_path / "noise.npz")
    assert read.source == "repeats" and read.notes == {"pairs": "12"}
    for name, noise in model.fields.items():
        assert (read.fields[name].sigma, read.fields[name].gain) == (noise.sigma, noise.gain)
        np.testing.assert_array_equal(read.fields[name].filter_at(20, 20), noise.filter_at(20, 20))
        np.testing.assert_array_equal(read.fields[name].map_at(20, 20), noise.map_at(20, 20))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_noise_model_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"noise\.npz: expected a noise model"):
        NoiseModel.load(tmp_path / "noise.npz")


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_impossible_levels_are_refused(sigma: float) -> None:
    with pytest.raises(DataError, match="sigma must be a finite number"):
        FieldNoise(sigma)


def test_impossible_spectra_are_refused() -> None:
    with pytest.raises(DataError, match="spectrum must be a 2-D array"):
        FieldNoise(1.0, np.zeros((8, 8)))
