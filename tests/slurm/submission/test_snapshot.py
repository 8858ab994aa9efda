"""Jobs run the code as it was when the stages were submitted."""

import subprocess
import sys
from pathlib import Path

import pytest

from quell.configs.support.paths import BASE_VARIABLE
from quell.slurm.submission import snapshot


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one file of code and some data beside it."""
    root = tmp_path / "project"
    (root / "launch" / "__pycache__").mkdir(parents=True)
    (root / "launch" / "train.py").write_text("print('old')\n")
    (root / "launch" / "__pycache__" / "train.pyc").write_text("no")
    (root / "launch" / ".#train.py").symlink_to("somebody@somewhere.1234")
    (root / "data").mkdir()
    (root / "data" / "image.npy").write_text("pixels")
    monkeypatch.setattr(snapshot, "ROOT", root)
    monkeypatch.setenv(BASE_VARIABLE, str(root))
    return root


def test_editing_the_checkout_does_not_change_a_snapshot(checkout: Path, tmp_path: Path) -> None:
    first = snapshot.take(tmp_path / "code")
    assert snapshot.take(tmp_path / "code") == first, "the same code is copied once"
    (checkout / "launch" / "train.py").write_text("print('new')\n")
    second = snapshot.take(tmp_path / "code")
    outputs = [
        subprocess.run(
            [sys.executable, folder / "quell" / "launch" / "train.py"], capture_output=True, text=True
        ).stdout
        for folder in (first, second)
    ]
    assert outputs == ["old\n", "new\n"]
    assert not (first / "quell" / "launch" / "__pycache__").exists()


def test_what_lies_beside_the_code_has_the_same_relative_path_in_a_snapshot(checkout: Path, tmp_path: Path) -> None:
    assert (snapshot.take(tmp_path / "code") / "data" / "image.npy").read_text() == "pixels"


def test_what_is_added_beside_the_code_is_linked_by_the_next_submission(checkout: Path, tmp_path: Path) -> None:
    first = snapshot.take(tmp_path / "code")
    (checkout / "my_methods").mkdir()
    (checkout / "my_methods" / "weights.npy").write_text("")
    assert snapshot.take(tmp_path / "code") == first and (first / "my_methods" / "weights.npy").is_file()
    assert snapshot.take(tmp_path / "code") == first


def test_paths_that_would_stay_in_the_copy_are_found(checkout: Path) -> None:
    words = ["-m", "shards.build", "awgn", "--output", "new/set", "--input=data/raw", "runs/a/b", "launch/train.py"]
    words += ["data.root=later/set", "/absolute/path", "s3://bucket/set", "{train}/report", "--level", "0.1"]
    assert snapshot.unlinked_paths(words) == ["new/set", "later/set"]


def test_the_commit_is_marked_if_files_differ_from_it(checkout: Path) -> None:
    assert snapshot.commit() == ""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(checkout)]
    for arguments in (["init", "-q"], ["add", "launch/train.py"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True, capture_output=True)
    assert len(snapshot.commit()) == 40
    (checkout / "launch" / "train.py").write_text("print('new')\n")
    assert snapshot.commit().endswith("+")
