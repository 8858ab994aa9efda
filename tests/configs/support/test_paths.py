"""Relative paths start where the user is; for a script of a checkout that is started by its path, in the checkout."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from quell.configs.support import paths
from tests.support.commands import Command

DRY_RUN = ("--config", "r2r", "data.root=absent/shards", "--dry-run")


def test_commands_start_relative_paths_where_the_user_is_in_a_checkout_too(command: Command, root: Path) -> None:
    output = command([sys.executable, "-m", "quell", "train", *DRY_RUN], cwd=root / "docs", code=4).output
    assert f"no shards at {root}/docs/absent/shards" in output


def test_modules_start_relative_paths_where_the_user_is(command: Command, tmp_path: Path) -> None:
    output = command([sys.executable, "-m", "quell.launch.train", *DRY_RUN], cwd=tmp_path, code=4).output
    assert f"no shards at {tmp_path}/absent/shards" in output


def test_scripts_start_relative_paths_in_their_checkout(command: Command, root: Path, tmp_path: Path) -> None:
    output = command([sys.executable, root / "launch" / "train.py", *DRY_RUN], cwd=tmp_path, code=4).output
    assert f"no shards at {root}/absent/shards" in output


def test_a_chosen_folder_wins_and_child_processes_are_given_the_own_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(paths.BASE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.base() == tmp_path and paths.child_environment()[paths.BASE_VARIABLE] == str(tmp_path)
    script = ModuleType("__main__")
    script.__file__, script.__package__ = str(root / "launch" / "train.py"), None
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert paths.base() == root
    script.__file__ = str(root / ".venv" / "bin" / "quell")
    assert paths.base() == tmp_path
    monkeypatch.setenv(paths.BASE_VARIABLE, str(tmp_path / "chosen"))
    assert paths.base() == tmp_path / "chosen"
