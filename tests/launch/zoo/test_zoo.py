"""The models that come with Quell: intact, small, documented; they restore what they say, and refuse the rest."""

import configparser
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

from quell.configs.errors import ConfigError, DataError
from quell.configs.support.paths import ROOT
from quell.launch import denoise, evaluate, train
from quell.launch.checkpoints import store
from quell.launch.inference import trained_model
from quell.launch.sharing import zoo
from quell.launch.sharing.locating import locate
from quell.launch.sharing.writing.facts import ModelFacts
from quell.launch.sharing.writing.model_card import model_card
from quell.launch.zoo import command
from quell.shards import build
from quell.shards.reading.shard_set import ShardSet
from tests.support.runs import checkpoint_of
from tests.support.small_runs import single_error

NAMES = zoo.names()
MAX_MB, MAX_TOTAL_MB = 5, 15


def camera(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """A photograph that no model was trained on, clean and noisy."""
    clean = (data.camera()[128:384, 128:384] / 255).astype(np.float32)
    noise = np.random.default_rng(11).standard_normal(clean.shape, np.float32)
    return clean, clean + np.float32(sigma) * noise


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean(np.abs(image - clean) ** 2)))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom knees that no model was trained on."""
    root = tmp_path_factory.mktemp("phantom")
    words = ["phantom", "--quiet", "--size", "96", "--train", "4", "--val", "2", "--test", "1", "--seed", "7"]
    assert build.main([*words, "--output", str(root)]) == 0
    return root


def first_sample(root: Path) -> dict[str, np.ndarray]:
    """The fields of the first test sample."""
    split = ShardSet.open(root / "test")
    return {
        name: split.read_member(0, name, split.locate(np.array([0]), name)[0], verify=True)
        for name in ("pd", "pdfs", "pd_clean", "pdfs_clean")
    }


def test_there_are_models_for_each_kind_of_image() -> None:
    kinds = {kind for name in NAMES for kind in _facts(name)["fields"].values()}
    assert len(NAMES) >= 5 and kinds == {"grey", "complex", "colour"}


def test_they_are_small_and_in_the_wheel() -> None:
    files = [file for file in zoo.WEIGHTS.rglob("*") if file.is_file()]
    assert all(file.stat().st_size < MAX_MB * 1e6 for file in files)
    assert sum(file.stat().st_size for file in files) < MAX_TOTAL_MB * 1e6
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["quell.launch.zoo"].split(",")
    names = [file.relative_to(zoo.WEIGHTS.parent).as_posix() for file in files]
    assert all(any(fnmatch(name, pattern.strip()) for pattern in patterns) for name in names)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_intact_and_says_what_it_is(name: str) -> None:
    folder = locate(f"zoo:{name}")
    trained_model.load(folder)
    front_matter = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    facts = _facts(name)
    assert front_matter["license"] == "mit" and facts["name"] == name
    assert facts["data"]["fingerprint"] and facts["data"]["licence"] and facts["results"]["table"]
    assert all(gain > 3 for gain in facts["results"]["gain_db"].values())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["data"]["root"].startswith("runs/data/") and config["seed"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_card_is_what_the_facts_beside_it_say(name: str) -> None:
    facts = ModelFacts(**{**_facts(name), "warnings": tuple(_facts(name)["warnings"])})
    assert (zoo.folder(name) / "README.md").read_text() == model_card(facts)


def test_cards_of_one_knee_say_so() -> None:
    for name in ("knee_pd", "knee_pd_blind", "knee_pd_t2"):
        limits = (zoo.folder(name) / "README.md").read_text().split("## Limits")[1].split("## Training data")[0]
        assert "slices of one knee of one patient" in limits


def test_the_documented_table_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 0
    assert capsys.readouterr().out in (ROOT / "docs" / "sharing.md").read_text()


def test_the_command_prints_a_card_and_suggests_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([NAMES[0]]) == 0
    assert f"# {NAMES[0]}" in capsys.readouterr().out
    assert command.main(["photograph_blind"]) == ConfigError.exit_code
    assert "photographs_blind" in single_error(capsys.readouterr().err)


@pytest.mark.parametrize(("sigma", "gain"), [(0.05, 4), (0.15, 8), (0.28, 8)])
def test_a_photograph_is_restored_at_every_accepted_level(sigma: float, gain: float, tmp_path: Path) -> None:
    clean, noisy = camera(sigma)
    np.save(tmp_path / "noisy.npy", noisy)
    words = ["--zoo", "photographs_blind", str(tmp_path / "noisy.npy"), "--output", str(tmp_path / "out"), "--quiet"]
    assert denoise.main(words) == 0
    assert psnr(np.load(tmp_path / "out" / "noisy.npy"), clean) > psnr(noisy, clean) + gain


def test_a_phantom_is_restored(phantom: Path, tmp_path: Path) -> None:
    arrays = first_sample(phantom)
    np.savez(tmp_path / "knee.npz", pd=arrays["pd"], pdfs=arrays["pdfs"])
    words = ["--zoo", "phantom_pd_pdfs", str(tmp_path / "knee.npz"), "--output", str(tmp_path / "out"), "--quiet"]
    assert denoise.main(words) == 0
    restored = np.load(tmp_path / "out" / "knee.npz")
    for name in ("pd", "pdfs"):
        assert psnr(restored[name], arrays[f"{name}_clean"]) > psnr(arrays[name], arrays[f"{name}_clean"]) + 9


def test_three_times_the_noise_is_refused_with_both_levels(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, random = first_sample(phantom), np.random.default_rng(3)
    for file, sigma in (("good", 0.1), ("strong", 0.3)):
        noise = sigma * (random.standard_normal((2, *arrays["pd"].shape, 2)) @ (1, 1j))
        pair = {
            name: (arrays[f"{name}_clean"] + noise[k]).astype(np.complex64) for k, name in enumerate(("pd", "pdfs"))
        }
        np.savez(tmp_path / f"{file}.npz", **pair)
    words = ["--zoo", "phantom_pd_pdfs", str(tmp_path / "good.npz"), str(tmp_path / "strong.npz")]
    assert denoise.main([*words, "--output", str(tmp_path / "out")]) == DataError.exit_code
    error = single_error(capsys.readouterr().err)
    measured = float(error.split("standard deviation of ")[1].split(" ")[0])
    assert measured == pytest.approx(0.3, rel=0.2) and "strong.npz" in error
    assert "that of the training images had 0.0964" in error and "--force" in error
    assert not (tmp_path / "out").exists()
    assert denoise.main([*words, "--output", str(tmp_path / "out"), "--force", "--quiet"]) == 0
    assert "expect noise that is left or detail that is lost" in capsys.readouterr().err


def test_correlated_noise_is_refused_by_a_model_for_white_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean, noisy = camera(0.3)
    np.save(tmp_path / "noisy.npy", clean + gaussian_filter(noisy - clean, 1))
    words = ["--zoo", "photographs_blind", str(tmp_path / "noisy.npy"), "--output", str(tmp_path / "out")]
    assert denoise.main(words) == DataError.exit_code
    assert "training images had 0.02 to 0.2 and 0.00" in single_error(capsys.readouterr().err)


def test_noise_that_cannot_be_measured_is_refused_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, noisy = camera(0.5)
    np.save(tmp_path / "small.npy", noisy[:63])
    noisy[:, 100:] = 0
    np.save(tmp_path / "masked.npy", noisy)
    for name, words in (("small", "a side of 63 px"), ("masked", "most of each image is constant (masked or padded)")):
        given = ["--zoo", "photographs_blind", str(tmp_path / f"{name}.npy"), "--output", str(tmp_path / "out")]
        assert denoise.main(given) == DataError.exit_code
        error = single_error(capsys.readouterr().err)
        assert f"{name}.npy: the noise of 'noisy' could not be examined" in error and words in error
        assert "restore it unchecked with --force" in error and not (tmp_path / "out" / f"{name}.npy").exists()
        assert denoise.main([*given, "--force"]) == 0
        assert "whether it is that of the training images is not known" in capsys.readouterr().err


def test_a_stack_is_judged_by_its_middle_rather_than_by_its_first_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sigma in (("good", 0.1), ("strong", 0.5)):
        noisy = camera(sigma)[1]
        np.save(tmp_path / f"{name}.npy", np.stack([np.zeros_like(noisy), noisy, noisy, np.zeros_like(noisy)]))
    words = ["--zoo", "photographs_blind", "--output", str(tmp_path / "out"), "--quiet"]
    assert denoise.main([*words, str(tmp_path / "good.npy")]) == 0
    capsys.readouterr()
    assert denoise.main([*words, str(tmp_path / "strong.npy")]) == DataError.exit_code
    assert "of 'noisy' in image 3 of 4 has a standard deviation of" in single_error(capsys.readouterr().err)


def test_a_model_without_a_range_restores_any_level(tmp_path: Path) -> None:
    assert "| any level |" in (zoo.WEIGHTS / "underwater" / "README.md").read_text()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    words = ["--zoo", "underwater", str(tmp_path / "image.png"), "--output", str(tmp_path / "out"), "--quiet"]
    assert denoise.main(words) == 0


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [("photographs_blind", (64, 64, 3), "grey"), ("underwater", (64, 64), "colour"), ("knee_pd", (64, 64, 3), "grey")],
)
def test_another_kind_of_image_is_refused(
    name: str, shape: tuple[int, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    code = denoise.main(["--zoo", name, str(tmp_path / "image.png"), "--output", str(tmp_path / "out")])
    assert code == DataError.exit_code
    assert f"trained on {words} images" in single_error(capsys.readouterr().err)


def test_the_recorded_configuration_trains_the_same_network(phantom: Path, tmp_path: Path) -> None:
    folder = zoo.folder("phantom_pd_pdfs")
    words = ["--config", str(folder / "config.yaml"), "--run-dir", str(tmp_path / "run"), f"data.root={phantom}"]
    assert train.main([*words, "loop.max_steps=2", "evaluation.limit=1", "--quiet"]) == 0
    weights = store.read_weights(checkpoint_of(tmp_path / "run", 2))
    store.check_fit(weights, store.read_weights(folder), folder)


@pytest.mark.slow
def test_training_again_gives_the_numbers_of_the_card(tmp_path: Path) -> None:
    assert build.main(["photographs", "--output", str(tmp_path / "data"), "--quiet"]) == 0
    folder, run = zoo.folder("photographs_blind"), tmp_path / "run"
    words = ["--config", str(folder / "config.yaml"), "--run-dir", str(run), f"data.root={tmp_path / 'data'}"]
    assert train.main([*words, "--quiet"]) == 0
    assert evaluate.main(["--run", str(run), "--pictures", "0", "--quiet"]) == 0
    measured = json.loads((run / "report.json").read_text())["means"]["restored/psnr"]
    assert measured == pytest.approx(_facts("photographs_blind")["results"]["psnr"]["noisy"], abs=0.2)
    shutil.rmtree(run)


def _facts(name: str) -> dict:
    facts: dict = json.loads((zoo.WEIGHTS / name / "meta.json").read_text())["shared"]
    return facts
