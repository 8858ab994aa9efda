"""Clean Python environments: one with the wheel, with a checkout in it, or with a checkout beside it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from quell.configs.support.paths import ROOT
from tests.support import commands
from tests.support.commands import CommandResult

_CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")
_MADE = (".git", ".venv", "runs", "build", "dist", "site")
"""At the top of the tree, what is no source."""


def copy_of_tree(folder: Path) -> Path:
    """Copy the sources to a folder where building may leave files."""
    shutil.copytree(
        ROOT,
        folder,
        symlinks=True,
        ignore=lambda path, names: {*_CACHES(path, names), *(_MADE if Path(path) == ROOT else ())},
    )
    return folder


def build(tree: Path, output: Path, *options: str) -> list[Path]:
    """Build distributions of a tree without the network; what was built. By default a sdist, and the wheel from it."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), *options, str(tree)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(output.iterdir())


class Environment:
    """A virtual environment that sees the dependencies of the tests' own, but not the code under test."""

    def __init__(self, folder: Path) -> None:
        """Create it without pip, which takes seconds."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = folder / "Lib" / "site-packages" if os.name == "nt" else folder / "lib" / version / "site-packages"
        # As a plain path its own .pth files are not read: among them is that of the editable install of this tree.
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    def install(self, *words: object) -> None:
        """Install with pip, offline and without dependencies."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *options, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *words: object, cwd: Path, code: int = 0, env: dict[str, str] | None = None) -> CommandResult:
        """Run a command of the environment in a folder."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        first, *rest = words
        variables = {"PATH": path, "PYTHONPATH": "", "PYTHONWARNINGS": "", **(env or {})}
        return commands.run([self.bin / str(first), *rest], cwd=cwd, code=code, env=variables)
