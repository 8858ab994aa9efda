"""A run in the folder that it is shared in: the same results, a card that tells them, and no damage unnoticed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from quell.configs import loader
from quell.configs.errors import CheckpointError, ConfigError, DataError
from quell.launch import denoise, diagnose, evaluate
from quell.launch.checkpoints import integrity
from quell.launch.exporting import command as export_command
from quell.launch.exporting.writing import export
from quell.launch.inference import trained_model
from quell.launch.sharing.locating import locate
from quell.launch.sharing.writing import command
from quell.launch.sharing.writing.hub_folder import write_hub_folder
from quell.launch.sharing.writing.portable import portable
from tests.support.small_runs import single_error


def test_it_restores_and_measures_as_the_run_does(
    evaluated_run: Path, shared: Path, noisy_file: Path, tmp_path: Path
) -> None:
    for name, run in (("run", evaluated_run), ("shared", shared)):
        assert denoise.main(["--run", str(run), str(noisy_file), "--output", str(tmp_path / name), "--quiet"]) == 0
    by_run, by_shared = (np.load(tmp_path / name / "noisy.npy") for name in ("run", "shared"))
    assert by_run.tobytes() == by_shared.tobytes()
    report, data = tmp_path / "report.json", evaluated_run.parent / "data"
    words = ["--run", str(shared), "--data", str(data), "--baseline", "noisy", "--pictures", "0", "--quiet"]
    assert evaluate.main([*words, "--output", str(report)]) == 0
    assert json.loads(report.read_text())["means"] == json.loads((evaluated_run / "report.json").read_text())["means"]


def test_the_card_says_what_the_report_does(evaluated_run: Path, shared: Path) -> None:
    card = (shared / "README.md").read_text()
    front_matter = yaml.safe_load(card.split("---\n")[1])
    report = json.loads((evaluated_run / "report.json").read_text())
    assert front_matter["license"] == "cc-by-4.0" and front_matter["library_name"] == "quell"
    assert "r2r" in front_matter["tags"] and "psnr" in front_matter["metrics"]
    (result,) = front_matter["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(report["means"]["restored/psnr"], abs=1e-3)
    for row in report["table"]:
        assert "| " + " | ".join(row.values()) + " |" in card
    for note in report["notes"]:
        assert note in card
    fingerprint = json.loads((shared / "meta.json").read_text())["shared"]["data"]["fingerprint"]
    for fact in ("Gaussian noise of known covariance", "sigma 0.09", fingerprint, "seed: 1", "torch "):
        assert fact in card


def test_it_holds_no_pickle_and_no_path_of_its_author(evaluated_run: Path, shared: Path) -> None:
    assert {file.name for file in shared.iterdir()} == {
        "README.md", "config.yaml", "meta.json", "model.safetensors", "noise.npz",
    }  # fmt: skip
    for file in shared.iterdir():
        assert str(evaluated_run.parent).encode() not in file.read_bytes(), file.name
    assert loader.load(shared / "config.yaml").data.root == "data"


def test_absolute_paths_of_every_system_lose_their_folders(evaluated_run: Path) -> None:
    config = trained_model.folder_of(evaluated_run).config()
    for path in ("/home/ann/knees", r"C:\Users\ann\knees"):
        data = config.data.model_copy(update={"root": path})
        assert portable(config.model_copy(update={"data": data})).data.root == "knees"
    data = config.data.model_copy(update={"root": "runs/data/knees"})
    assert portable(config.model_copy(update={"data": data})).data.root == "runs/data/knees"


def test_export_writes_the_same_folder(evaluated_run: Path, shared: Path, tmp_path: Path) -> None:
    assert export_command.main([str(evaluated_run), "--hub", str(tmp_path / "hub"), "--quiet"]) == 0
    for file in shared.iterdir():
        assert (tmp_path / "hub" / file.name).read_bytes() == file.read_bytes(), file.name


def test_nothing_is_overwritten(evaluated_run: Path, shared: Path, tmp_path: Path) -> None:
    before = (shared / "meta.json").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        write_hub_folder(evaluated_run, shared)
    assert (shared / "meta.json").read_bytes() == before
    with pytest.raises(CheckpointError, match="shared model already"):
        write_hub_folder(shared, tmp_path / "again")


def test_a_report_of_other_weights_is_refused(evaluated_run: Path, tmp_path: Path) -> None:
    report = json.loads((evaluated_run / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({**report, "checkpoint": "step-00000001"}))
    with pytest.raises(DataError, match="measures step-00000001, but step-00000002"):
        write_hub_folder(evaluated_run, tmp_path / "hub", report=tmp_path / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_command_asks_for_a_licence_that_nobody_stated(
    evaluated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(f"root: {evaluated_run.parent}/data", "root: gone"))
    assert command.main([str(run), str(tmp_path / "hub")]) == DataError.exit_code
    assert "--licence" in single_error(capsys.readouterr().err)
    assert command.main([str(run), str(tmp_path / "hub"), "--licence", "House rules"]) == 0
    front_matter = yaml.safe_load((tmp_path / "hub" / "README.md").read_text().split("---\n")[1])
    assert front_matter["license"] == "other" and front_matter["license_name"] == "House rules"


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: _flip(folder / "model.safetensors"), "model.safetensors is damaged: its checksum differs"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model.safetensors has 0 bytes"),
        (lambda folder: _flip(folder / "noise.npz"), "noise.npz is damaged"),
        (lambda folder: (folder / "config.yaml").write_text("{}"), "config.yaml has 2 bytes"),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml"),
        (lambda folder: (folder / "meta.json").unlink(), "meta.json is missing"),
        (lambda folder: (folder / "meta.json").write_text("{"), "meta.json is not readable"),
    ],
)
def test_damage_is_one_sentence(
    damage: Callable[[Path], None],
    words: str,
    shared: Path,
    noisy_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shared, folder)
    damage(folder)
    code = denoise.main(["--run", str(folder), str(noisy_file), "--output", str(tmp_path / "out")])
    assert code == CheckpointError.exit_code
    assert words in single_error(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_the_card_may_be_edited(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("My model.")
    (tmp_path / "copy" / ".gitattributes").write_text("* text=auto")
    trained_model.load(tmp_path / "copy")


@pytest.mark.parametrize("network", ["{target: foreign_module.Network}", "{name: foreign_module.network}"])
def test_code_from_elsewhere_is_imported_only_if_trusted(
    network: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shared, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["pipeline"]["network"] = yaml.safe_load(network)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    meta = json.loads((folder / "meta.json").read_text())
    meta["files"]["config.yaml"] = integrity.describe(folder)["config.yaml"]
    (folder / "meta.json").write_text(integrity.to_json({k: v for k, v in meta.items() if k != "checksum"}))
    (tmp_path / "foreign_module.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"code outside of Quell.*--trust-code"):
        locate(folder)
    assert "foreign_module" not in sys.modules
    with pytest.raises(ConfigError, match=r"code outside of Quell.*--trust-code"):
        trained_model.load(folder)
    assert diagnose.main(["--run", str(folder)]) == ConfigError.exit_code
    words = [str(folder), "--output", str(tmp_path / "file.onnx")]
    assert export_command.main(words) == ConfigError.exit_code
    assert "foreign_module" not in sys.modules
    assert locate(folder, trust_code=True) == folder
    with pytest.raises((ConfigError, RuntimeError), match="imported"):
        trained_model.load(folder, trust_code=True)
    sys.modules.pop("foreign_module", None)
    with pytest.raises((ConfigError, RuntimeError), match="imported"):
        export.open_run(folder, trust_code=True)
