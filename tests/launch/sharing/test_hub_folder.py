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
from quell.configs.tracking import MlflowConfig, TrackingConfig
from quell.launch import denoise, diagnose, evaluate
from quell.launch.capsule.files import keep, read_starts
from quell.launch.checkpoints import integrity
from quell.launch.exporting import command as export_command
from quell.launch.exporting.writing import export
from quell.launch.inference import trained_model
from quell.launch.sharing.locating import locate
from quell.launch.sharing.writing import command
from quell.launch.sharing.writing.hub_folder import write_hub_folder
from quell.launch.sharing.writing.portable import portable, without_folders
from quell.shards import inspect
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


@pytest.mark.parametrize(
    "root",
    [
        "/home/ann/knees",
        r"C:\Users\ann\knees",
        "~/ann/knees",
        "../../ann/knees",
        "runs/../../ann/knees",
        "file:///home/ann/knees",
        "s3://bucket-of-ann/scans/knees",
    ],
)
def test_locations_that_are_the_authors_lose_all_but_their_last_part(root: str, evaluated_run: Path) -> None:
    config = trained_model.folder_of(evaluated_run).config()
    data = config.data.model_copy(update={"root": root})
    assert portable(config.model_copy(update={"data": data})).data.root == "knees"


def test_what_others_can_use_of_a_configuration_stays(evaluated_run: Path) -> None:
    config = trained_model.folder_of(evaluated_run).config()
    data = config.data.model_copy(update={"root": "runs/data/knees"})
    tracking = TrackingConfig(trackers=("mlflow",), mlflow=MlflowConfig(uri="http://internal:5000"))
    kept = portable(config.model_copy(update={"data": data, "tracking": tracking}))
    assert kept == config.model_copy(update={"data": data, "tracking": TrackingConfig()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("scans at /scratch/ann/x.tar, moved to ~/y/z; 1/2 or a/b", "scans at x.tar, moved to z; 1/2 or a/b"),
        ("failed (http://me:pw@internal/api)", "failed (api)"),
        ("mean \u00b1 standard deviation, 3 / 4", "mean \u00b1 standard deviation, 3 / 4"),
    ],
)
def test_paths_inside_sentences_lose_their_folders(text: str, expected: str) -> None:
    assert without_folders([{"note": text}]) == [{"note": expected}]


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
    for other, words in (({"identity": 64 * "0"}, "measures other weights"), ({"identity": ""}, "an earlier version")):
        (tmp_path / "report.json").write_text(json.dumps({**report, **other}))
        with pytest.raises(DataError, match=words):
            write_hub_folder(evaluated_run, tmp_path / "hub", report=tmp_path / "report.json")
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_the_card_names_the_data_that_were_measured(evaluated_run: Path, shared: Path, tmp_path: Path) -> None:
    data = tmp_path / "photographs"
    shutil.copytree(evaluated_run.parent / "data", data)
    assert inspect.main([str(data / "test"), "--set", "source=others"]) == 0
    report = tmp_path / "report.json"
    words = ["--run", str(evaluated_run), "--data", str(data), "--baseline", "noisy", "--pictures", "0", "--quiet"]
    assert evaluate.main([*words, "--output", str(report)]) == 0
    facts = write_hub_folder(evaluated_run, tmp_path / "hub", report=report)
    card = (tmp_path / "hub" / "README.md").read_text()
    (result,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    assert result["dataset"]["name"] == "others" and facts.results["fingerprint"] in card
    assert "trained on images of `test`, and measured on another data set, of `others`, only" in card
    own_card = (shared / "README.md").read_text()
    assert "measured on images like those it was trained on only" in own_card and "another data set" not in own_card


def test_the_card_says_what_the_run_was_trained_with(evaluated_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    (start,) = read_starts(run)
    (run / "capsule" / start["packages"]).unlink()
    start["packages"] = keep(run, "packages", "txt", b"numpy==1.0\naccelerate==0.1\n")
    start["machine"] |= {"torch": "2.6.0+cu124", "python": "3.10.1", "devices": [{"name": "NVIDIA H100"}]}
    start["code"] |= {"commit": "abc+", "version": "0.1.0"}
    (run / "capsule" / "starts.jsonl").write_text(json.dumps(start) + "\n")
    write_hub_folder(run, tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "- versions: quell 0.1.0, torch 2.6.0+cu124, numpy 1.0, accelerate 0.1, python 3.10.1\n" in card
    assert "- commit: abc+\n" in card and "- device: NVIDIA H100\n" in card
    shutil.rmtree(run / "capsule")
    write_hub_folder(run, tmp_path / "old")
    assert "- versions: not recorded\n" in (tmp_path / "old" / "README.md").read_text()


def test_the_limits_are_those_of_the_weights_and_not_the_authors_troubles(evaluated_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(evaluated_run, run)
    summary = json.loads((run / "summary.json").read_text())
    summary["warnings"] = {
        "mlflow": "failed (http://internal)",
        "residual_structure": "0.99 is of the first evaluation",
    }
    (run / "summary.json").write_text(json.dumps(summary))
    facts = write_hub_folder(run, tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "internal" not in card and "first evaluation" not in card
    assert facts.warnings, "two steps of training restore nothing"
    assert all(f"- {warning}\n" in card for warning in facts.warnings)


def test_a_licence_that_is_not_that_of_the_data_is_pointed_out(
    evaluated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(evaluated_run), str(tmp_path / "other"), "--licence", "MIT"]) == 0
    assert "licence MIT, but the training data have CC-BY-4.0" in capsys.readouterr().err
    assert command.main([str(evaluated_run), str(tmp_path / "same"), "--licence", "cc-by-4.0"]) == 0
    assert "training data have" not in capsys.readouterr().err


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
