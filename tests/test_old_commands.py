"""docs/coming_from_old_scripts.md: every line that replaces an old command runs; old flags and names are answered."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quell.configs.support.paths import ROOT
from quell.launch import diagnose, evaluate, experiments, train
from quell.shards import build
from quell.shards.building.writer import write_split
from tests.support.small_runs import single_error, write_mini

ROWS = [
    line.split("|")[2].strip(" `")
    for line in (ROOT / "docs" / "coming_from_old_scripts.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and "`" in line.split("|")[2]
]
SMALL = ["data.batch_size=2", "loop.epochs=null", "loop.max_steps=1", "evaluation.limit=1"]
NETWORKS = {
    "spectroformer": ["pipeline.losses={charbonnier: {}}"],
    "contrast": ["pipeline.encoder_features=[4,8]", "pipeline.decoder_features=[8,4]", "pipeline.latent_channels=4"],
}
MAINS: dict[str, Callable[[list[str]], int]] = {
    "train": train.main, "evaluate": evaluate.main, "diagnose": diagnose.main, "experiments": experiments.main,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small shards of paired contrasts, of OCT and of photographs, and a trained `tcfl_wgan`."""
    root = tmp_path_factory.mktemp("old_commands")
    write_mini(root / "knee")
    sizes = ["--train", "4", "--val", "2", "--test", "2", "--size", "40"]
    assert build.main(["oct_synthetic", "--output", str(root / "oct"), *sizes]) == 0
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        colours = np.random.default_rng(count).integers(0, 255, (count, 40, 40, 3), dtype=np.uint8)
        photographs = [
            {"__key__": f"s{i}", "noisy.npy": image // 2, "clean.npy": image} for i, image in enumerate(colours)
        ]
        write_split(root / "underwater" / split, photographs, name="tiny", meta={"data_range": 1.0})
    config = "configs/tcfl_wgan.yaml"
    words = ["--config", config, *settings([config], root), "pipeline.generator.depth=3"]
    assert train.main([*words, "--run-dir", str(root / "runs" / "tcfl_wgan")]) == 0
    return root


def settings(words: list[str], folder: Path) -> list[str]:
    """What makes a training of a line small, and where its data is."""
    name = next(Path(word).stem for word in words if word.startswith("configs/"))
    methods = {"tcfl_wgan": "oct", "cncl": "oct", "drgan": "oct", "r2r": "oct", "supervised": "oct"}
    data = methods.get(name, "underwater" if name == "spectroformer" else "knee")
    crop = f"data.crop={24 if data == 'knee' else 32}"
    return [*SMALL, crop, f"data.root={folder / data}", *NETWORKS.get("contrast" if data == "knee" else name, [])]


def train_first(run: str, folder: Path) -> None:
    """Train, by its own line, the run that a line starts from, unless another test has."""
    words = next(shlex.split(line) for line in ROWS if f"--run-dir {run}" in line)
    options = [word.replace("runs/", f"{folder}/runs/") for word in words[2:]]
    assert train.main([*options, *settings(words, folder)]) == 0


@pytest.mark.parametrize("line", ROWS)
def test_every_line_of_the_tables_runs(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word.replace("runs/", f"{folder}/runs/") for word in shlex.split(line)]
    if words[0] == "launch/quick_test.sh":
        shown = subprocess.run(
            ["sh", *words], cwd=ROOT, env={"PYTHON": "echo"}, text=True, capture_output=True, check=True
        )
        assert re.search(r"launch/train\.py --config \S+\.(json|yaml) --epochs 2 ", shown.stdout)
        return
    assert words[0] == "python"
    monkeypatch.chdir(ROOT)
    script, arguments = Path(words[1]).stem, words[2:]
    if script == "submit":
        from quell.slurm import submit

        small = [word for setting in (f"data.root={folder / 'knee'}", "data.crop=24") for word in ("--set", setting)]
        assert submit.main([*arguments, "--dry-run", *small]) == 0
        return
    if script == "evaluate":
        arguments += ["--limit", "1", "--pictures", "0"]
    elif script == "experiments":
        arguments += ["--output", str(folder / "runs" / "experiments")]
        if "--summary" in arguments:
            (folder / "runs" / "experiments").mkdir(exist_ok=True)
            assert experiments.main(arguments) == 6, "no run has started"
            return
        arguments.append("--dry-run")
    elif script == "diagnose" and "--run" not in arguments:
        arguments += settings(["configs/contrast2contrast.yaml"], folder)
    elif script == "train":
        if needed := re.search(r"init_from\.run=(\S+)", line):
            train_first(needed[1], folder)
        arguments += settings(words, folder)
        if "progressive" not in line and "no_skip_everywhere" not in line:
            arguments.append("--dry-run")
        elif "--run-dir" not in arguments:
            arguments += ["--run-dir", str(folder / "runs" / "other")]
    assert MAINS[script](arguments) == 0


@pytest.mark.parametrize(
    ("main", "words", "answer"),
    [
        (train.main, ["--batch_size", "2"], "--batch_size -> data.batch_size=2"),
        (train.main, ["--lr_d=1e-5", "--cuda"], "--lr_d -> optimizer.phases.critic.lr=1e-5; --cuda -> nothing"),
        (evaluate.main, ["--epoch", "600"], "--epoch -> --run RUN/checkpoints/step-XXXXXXXX"),
        (train.main, ["--training", "R2R"], "--training -> --config configs/r2r.yaml"),
    ],
)
def test_flags_of_older_scripts_are_answered_with_what_replaces_them(
    main: Callable[[list[str]], int], words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert answer in single_error(capsys.readouterr().err)


def test_stage_2_after_a_renamed_stage_1_names_the_line_to_add(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "configs/progressive_training.yaml", *settings(["configs/progressive_training.yaml"], folder)]
    assert train.main([*words, "--run-dir", str(tmp_path / "stage1")]) == 0
    second = ["--config", "configs/progressive_training_stage2.yaml", *words[2:]]
    missing = f"init_from.run={tmp_path / 'progressive_training'}"
    capsys.readouterr()
    assert train.main([*second, missing, "--run-dir", str(tmp_path / "stage2")]) == 5
    captured = capsys.readouterr()
    assert f"add init_from.run={tmp_path / 'stage1'}" in single_error(captured.out + captured.err)
