"""The command `python -m shards.noise`, the section of the data card, and what verdicts advise."""

import json
from pathlib import Path

import numpy as np
import pytest

from quell.configs.errors import DataError
from quell.losses.noise.model import FieldNoise, NoiseModel, spectrum_of_kernel
from quell.losses.noise.verdicts import verdict
from quell.shards import build, noise

WIDE = spectrum_of_kernel(np.ones((3, 3)))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom with blurred noise and repeats."""
    folder = tmp_path_factory.mktemp("noise")
    sizes = ["--size", "96", "--train", "4", "--val", "0", "--test", "0", "--workers", "1"]
    assert build.main(["phantom", "--output", str(folder), "--noise", "blurred", "--second", *sizes]) == 0
    return folder


def test_the_command_reports_saves_and_draws(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, picture = tmp_path / "noise.npz", tmp_path / "noise.png"
    assert noise.main([str(shards), "--json", "--save", str(saved), "--picture", str(picture)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fields"]["pd"]["source"] == "repeats"
    assert report["fields"]["pd"]["correlation"]["0,1"] == pytest.approx(0.78, abs=0.05)
    assert {each["method"]: each["status"] for each in report["verdicts"]}["r2r"] == "needs spectrum"
    assert NoiseModel.load(saved).fields["pd"].sigma == pytest.approx(0.1, rel=0.05)
    assert picture.stat().st_size > 10_000


def test_the_card_of_a_new_data_set_has_a_section_on_noise(shards: Path) -> None:
    card = (shards / "dataset.md").read_text()
    assert "## Noise" in card and "neighbouring pixels of 'pd' have noise with a correlation of 0.7" in card
    assert set(NoiseModel.load(shards / "noise.npz").fields) == {"pd", "pdfs"}


def test_an_unknown_field_is_named(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert noise.main([str(shards), "--field", "pdf"]) == DataError.exit_code
    assert "no field 'pdf'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "told", "expected"),
    [
        ("r2r", "white", "needs spectrum"),
        ("r2r", "spectrum", "fits"),
        ("bm3d", "white", "needs spectrum"),
        ("nlm", "white", "do not use"),
        ("neighbor2neighbor", "white", "do not use"),
        ("noise2void", "white", "needs spectrum"),
        ("noise2noise", "white", "fits"),
        ("supervised", "white", "fits"),
    ],
)
def test_verdicts_on_correlated_noise(method: str, told: str, expected: str) -> None:
    model = NoiseModel({"noisy": FieldNoise(0.1, WIDE)})
    found = verdict(method, model, told=told)
    assert found.status == expected
    assert expected == "fits" or ("0.67" in found.reason and found.remedy)


def test_verdicts_on_a_map_and_on_white_noise() -> None:
    varying = FieldNoise(0.1, None, np.linspace(0.5, 1.5, 64).reshape(8, 8))
    assert verdict("r2r", NoiseModel({"noisy": varying})).status == "needs map"
    both = FieldNoise(0.1, WIDE, varying.level_map)
    assert verdict("r2r", NoiseModel({"noisy": both})).status == "needs spectrum and map"
    assert verdict("r2r", NoiseModel({"noisy": both}), told="spectrum_map").status == "fits"
    assert verdict("neighbor2neighbor", NoiseModel({"noisy": FieldNoise(0.1)})).status == "fits"
