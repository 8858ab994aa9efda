"""The recipes of CONTRIBUTING.md work as printed: the new source builds shards, and the new method trains on them."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quell.configs.support.paths import ROOT
from tests.support.commands import Command

PACKAGES = ("configs", "launch", "losses", "models", "pipelines", "quell", "shards", "slurm")
"""What training imports."""

RECIPE_FILES = ("pipelines/noisier2noise.py", "configs/noisier2noise.yaml", "shards/sources/npy_files.py")

RECIPE = re.compile(r"^`([\w./]+)`[^\n]*:\n\n```(?:python|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
"""A line that begins with a path and ends with a colon, and the block of code that follows it."""

pytestmark = pytest.mark.xdist_group("contributing")

SHORT = ("loop.max_steps=2", "loop.threads=1", "evaluation.every_steps=2", "tracking.tensorboard=false")


@pytest.fixture(scope="module")
def recipes() -> dict[str, str]:
    """The files that CONTRIBUTING.md prints, by path."""
    return dict(RECIPE.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8")))


@pytest.fixture(scope="module")
def tree(recipes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the printed files added, because other tests list the folders of the original."""
    copy = tmp_path_factory.mktemp("contributing")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, text in recipes.items():
        assert not (copy / path).exists(), f"CONTRIBUTING.md prints {path}, which is taken"
        (copy / path).write_text(text, "utf-8")
    return copy


@pytest.fixture(scope="module")
def shards(tree: Path, command: Command) -> Path:
    """Shards of ten noisy images, built by the printed source."""
    (tree / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        np.save(tree / "images" / f"patient{number}.npy", 0.5 + 0.1 * rng.standard_normal((40, 40)))
    words = ["-m", "shards.build", "npy_files", "--input", "images", "--output", "shards"]
    command([sys.executable, *words], cwd=tree, env={"PYTHONPATH": str(tree)})
    return tree / "shards"


@pytest.fixture
def own_folder(recipes: dict[str, str], shards: Path, tmp_path: Path) -> Path:
    """A folder outside of the checkout with a method, its YAML and a source of one's own, and the images."""
    for room in ("pipelines", "sources"):
        (tmp_path / f"my_{room}").mkdir()
    (tmp_path / "my_sources" / "npy_files.py").write_text(recipes["shards/sources/npy_files.py"], "utf-8")
    (tmp_path / "my_pipelines" / "noisier2noise.py").write_text(recipes["pipelines/noisier2noise.py"], "utf-8")
    yaml = recipes["configs/noisier2noise.yaml"].replace("name: noisier2noise", "name: my_pipelines.noisier2noise")
    (tmp_path / "mine.yaml").write_text(yaml, "utf-8")
    (tmp_path / "images").symlink_to(shards.parent / "images")
    return tmp_path


def test_every_recipe_file_is_printed(recipes: dict[str, str]) -> None:
    assert sorted(recipes) == sorted(RECIPE_FILES)


def test_the_printed_code_passes_the_linter(tree: Path, command: Command) -> None:
    files = [path for path in RECIPE_FILES if path.endswith(".py")]
    command([sys.executable, "-m", "ruff", "check", "--no-cache", *files], cwd=tree)
    command([sys.executable, "-m", "ruff", "format", "--no-cache", "--check", *files], cwd=tree)


def test_the_new_source_builds_every_split(shards: Path) -> None:
    counts = {path.parent.name: json.loads(path.read_text())["samples"] for path in shards.glob("*/index.json")}
    assert counts == {"train": 8, "val": 1, "test": 1}


def test_the_new_method_trains_two_steps(tree: Path, shards: Path, command: Command) -> None:
    words: list[Any] = ["launch/train.py", "--config", "configs/noisier2noise.yaml", "--run-dir", "runs/new"]
    command([sys.executable, *words, f"data.root={shards}", *SHORT], cwd=tree, env={"PYTHONPATH": str(tree)})
    summary = json.loads((tree / "runs" / "new" / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("finished", 2)
    assert not [path for path in RECIPE_FILES if (ROOT / path).exists()]


def test_methods_and_sources_of_ones_own_need_no_change_of_the_checkout(own_folder: Path, command: Command) -> None:
    def run(script: str, *words: object, code: int = 0) -> str:
        return command([sys.executable, ROOT / script, *words], cwd=own_folder, code=code).output

    shards, folder = own_folder / "shards", own_folder / "run"
    run("shards/build.py", "my_sources.npy_files", "--input", "images", "--output", shards)
    run("launch/train.py", "--config", "mine.yaml", f"data.root={shards}", *SHORT, "--run-dir", folder)
    run("launch/denoise.py", "--run", folder, "images/patient0.npy", "--output", own_folder / "restored")
    assert (own_folder / "restored" / "patient0.npy").is_file()
    said = run("launch/train.py", "--config", "mine.yaml", "pipeline.name=my_pipelines.n2n", "--dry-run", code=2)
    assert "no module my_pipelines.n2n" in said and "folder where you start" in said
