"""Quell installed as a wheel, as an editable checkout, or not at all, used from a folder with packages of its own."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from quell.configs.support.paths import ROOT
from tests.quell.environments import Environment, build, copy_of_tree
from tests.support import commands
from tests.support.runs import read_weights, same_bits

OWN_PACKAGES = ("models", "configs", "tests", "data", "launch", "losses", "shards")
"""What a user may call packages, although folders of this project have the same names."""

NETWORK = """
from torch import nn


class MyNet(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, out_channels, 3, padding=1))
"""

CONFIG = """
pipeline: {name: supervised, network: {target: models.MyNet}}
data: {root: knees, batch_size: 4, crop: 16, fields: {noisy: pd, clean: pd_clean}, representation: magnitude}
loop: {epochs: null, max_steps: 2, threads: 1}
evaluation: {every_epochs: null, every_steps: 2}
tracking: {tensorboard: false}
"""

STAGES = """
name: chain
resources: {gpus_per_node: 0, cpus_per_task: 1, memory_gib: 4, time_min: 10}
stages:
  train: {config: configs/mine.yaml}
  report: {after: train, command: [launch/evaluate.py, --run, "{train}", --output, "{here}/report.json"]}
"""

SCRIPT = """
import sys, quell
assert "torch" not in sys.modules, "importing quell takes no time"
import configs, data, models, tests
assert configs.MINE and data.MINE and tests.MINE
run = quell.train("configs/mine.yaml", run_dir="runs/python")
image = abs(quell.open_shards("knees", split="test")[0]["pd"])
assert run.load().restore(image).shape == image.shape
report = run.evaluate()
assert len(report.rows) == 2 and report.means["restored/psnr"] < 99
ours = {name for name in sys.modules if name.partition(".")[0] in ("losses", "pipelines", "shards", "launch", "slurm")}
assert not ours, ours
print(quell.__file__)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources."""
    return copy_of_tree(tmp_path_factory.mktemp("sources") / "tree")


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the sources."""
    (built,) = build(tree, tmp_path_factory.mktemp("wheel"), "--wheel")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel."""
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.install(wheel)
    return environment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with packages that have the names of ours, and a configuration with a network of their own."""
    for name in OWN_PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "models" / "__init__.py").write_text(NETWORK)
    (tmp_path / "configs" / "mine.yaml").write_text(CONFIG)
    (tmp_path / "stages.yaml").write_text(STAGES)
    return tmp_path


def build_knees(environment: Environment, folder: Path) -> None:
    """Build shards in the folder of the user."""
    size = ("--train", 8, "--val", 2, "--test", 2, "--size", 32)
    environment.run("quell", "build", "phantom", "--output", "knees", *size, cwd=folder)


def trained_alike(*runs: Path) -> bool:
    """Whether runs of two steps have the same weights."""
    first, *others = (read_weights(run, 2) for run in runs)
    return all(same_bits(first, other) for other in others)


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_every_file_that_the_code_reads(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("quell-")}
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "quell"]
    files = [path for room in rooms for path in room.rglob("*") if path.is_file()]
    expected = {f"quell/{path.relative_to(ROOT).as_posix()}" for path in files}
    expected |= {f"quell/{path.relative_to(ROOT / 'quell').as_posix()}" for path in package_files()}
    needless = ("__pycache__", "quick_test.sh")  # the latter starts experiments in a checkout
    missing = {name for name in expected if not any(word in name for word in needless)} - packed
    assert not missing, "add them to package_data in setup.cfg"
    assert all(name.startswith("quell/") for name in packed)


def package_files() -> list[Path]:
    """The files of `quell/` itself, without its links to the rooms."""
    own = [path for path in (ROOT / "quell").iterdir() if not path.is_symlink()]
    return [file for path in own for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]


@pytest.mark.xdist_group("wheel")
def test_an_installed_quell_leaves_all_other_names_to_the_user(installed: Environment, folder: Path) -> None:
    build_knees(installed, folder)
    printed = installed.run("python", "-c", SCRIPT, cwd=folder).output
    assert str(installed.bin.parent) in printed.splitlines()[-1]
    assert (folder / "runs" / "python" / "report.json").is_file()


@pytest.mark.xdist_group("wheel")
def test_messages_of_an_installed_quell_name_its_commands(installed: Environment, folder: Path) -> None:
    assert "usage: quell build awgn" in (text := installed.run("quell", "build", "awgn", "--help", cwd=folder).output)
    assert "  quell build awgn --train" in text and "python -m" not in text
    refused = installed.run("quell", "train", "--config", "r2r", cwd=folder, code=4).output
    assert f"no shards at {folder}/runs/data/gray/train: build them with `quell build SOURCE" in refused


@pytest.mark.slow
def test_commands_and_python_of_an_installed_quell_train_alike(installed: Environment, folder: Path) -> None:
    build_knees(installed, folder)
    train = ("--config", "configs/mine.yaml", "--run-dir")
    installed.run("quell", "train", *train, "runs/command", cwd=folder)
    installed.run("python", "-m", "quell", "train", *train, "runs/module", cwd=folder)
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", 1, "-m", "quell.launch.train")
    installed.run("python", *launcher, *train, "runs/launched", cwd=folder)
    installed.run("python", "-c", SCRIPT, cwd=folder)
    runs = [folder / "runs" / name for name in ("command", "module", "launched", "python")]
    assert trained_alike(*runs)


@pytest.mark.slow
def test_stages_of_an_installed_quell_run_with_the_packages_of_the_user(installed: Environment, folder: Path) -> None:
    build_knees(installed, folder)
    output = installed.run("quell", "submit", "--stages", "stages.yaml", "--local", cwd=folder).output
    assert json.loads((folder / "runs/chain/report/report.json").read_text())["images"] == 2, output
    (code,) = (folder / "runs" / "chain" / "code").iterdir()
    assert (code / "models").resolve() == folder / "models" and not (code / "quell" / "tests").exists()
    installed.run("quell", "train", "--config", "configs/mine.yaml", "--run-dir", "runs/alone", cwd=folder)
    assert trained_alike(folder / "runs" / "chain" / "train", folder / "runs" / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["editable", "checkout"])
def test_a_checkout_is_used_from_any_folder(kind: str, tree: Path, folder: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment")
    if kind == "editable":
        environment.install("--editable", tree)
        build_knees(environment, folder)
        environment.run("python", "-c", SCRIPT, cwd=folder)
        environment.run("quell", "train", "--config", "configs/mine.yaml", "--run-dir", "runs/command", cwd=folder)
        assert trained_alike(folder / "runs" / "python", folder / "runs" / "command")
    script = f"{tree}/launch/train.py"
    start = "data.root=" + str(folder / "knees")
    if kind == "checkout":
        size = ("--train", 8, "--val", 2, "--test", 2, "--size", 32)
        environment.run("python", "-m", "shards.build", "phantom", "--output", folder / "knees", *size, cwd=tree)
    run = folder / "runs" / "script"
    environment.run("python", script, "--config", "configs/mine.yaml", start, "--run-dir", run, cwd=folder)
    assert read_weights(run, 2)


@pytest.mark.slow
def test_a_sdist_builds_the_same_wheel(wheel: Path, tree: Path, tmp_path: Path) -> None:
    built, sdist = sorted(build(tree, tmp_path), key=lambda path: path.suffix, reverse=True)
    assert built.name == wheel.name and sdist.name.endswith(".tar.gz")
    contents = [
        {name: archive.read(name) for name in archive.namelist()} for archive in map(zipfile.ZipFile, (built, wheel))
    ]
    assert contents[0] == contents[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_mypy_and_editors_know_the_types_of_an_installed_quell(
    kind: str, wheel: Path, tree: Path, tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "environment")
    if kind == "wheel":
        environment.install(wheel)
    else:
        environment.install("--config-settings", "editable_mode=strict", "--editable", tree)
    (tmp_path / "mine.py").write_text("import quell\n\nreveal_type(quell.load('run').fields)\nquell.load(3)\n")
    mypy = [sys.executable, "-m", "mypy", "--python-executable", environment.bin / "python", "--no-error-summary"]
    output = commands.run(
        [*mypy, "--cache-dir", tmp_path / "cache", "mine.py"], cwd=tmp_path, code=1, env={"PYTHONPATH": ""}
    ).output
    assert 'Revealed type is "tuple[' in output and 'incompatible type "int"' in output
    assert [line for line in output.splitlines() if not line.startswith("mine.py")] == []
