"""What differs from a commit is kept as a patch, from which the same code can be had again."""

import os
import subprocess
from pathlib import Path

import pytest

from quell.configs.source_code import changes
from quell.configs.source_code.files import contents, fingerprint

NEW = "def gain():\n    return 2  # no line ends here"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of two files of code and one other file."""
    root = tmp_path / "project"
    (root / "launch").mkdir(parents=True)
    (root / "quell").mkdir()
    (root / "launch" / "train.py").write_text("print('old')\n")
    (root / "launch" / "gone.py").write_text("print('gone')\n")
    (root / "notes.md").write_text("notes\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        git(root, *words)
    return root


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *identity, "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def change(root: Path) -> None:
    """Edit, remove and add files of the code, and add one that is none."""
    (root / "launch" / "train.py").write_text("print('new')\n")
    (root / "launch" / "gone.py").unlink()
    (root / "launch" / "gain.py").write_text(NEW)
    (root / "images.csv").write_text("1,2\n")


def test_a_patch_restores_edited_removed_and_new_files(checkout: Path, tmp_path: Path) -> None:
    change(checkout)
    before = git(checkout, "status", "--porcelain")
    found = changes.changes(checkout)
    assert found is not None and found.untracked == ("launch/gain.py",) and not found.left_out
    assert git(checkout, "status", "--porcelain") == before, "the index has not changed"
    code = tmp_path / "again"
    assert changes.restore(checkout, git(checkout, "rev-parse", "HEAD"), found.patch, code) is None
    assert (code / "launch" / "gain.py").read_text() == NEW
    assert fingerprint(contents(code)) == fingerprint(contents(checkout))
    assert not (code / "images.csv").exists(), "what is no code is not copied"


@pytest.mark.parametrize(
    "setting",
    ["diff.noprefix=true", "diff.mnemonicPrefix=true", "diff.context=0", "diff.srcPrefix=x/", "color.ui=always",
     "diff.external=false", "diff.renames=copies", "apply.whitespace=error-all", "diff.upper.textconv=tr a-z A-Z <"],
)  # fmt: skip
def test_a_patch_applies_whatever_the_user_has_set_in_git(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    name, _, value = setting.partition("=")
    for variable, text in (("COUNT", "1"), ("KEY_0", name), ("VALUE_0", value)):
        monkeypatch.setenv(f"GIT_CONFIG_{variable}", text)
    (checkout / ".gitattributes").write_text("*.py diff=upper\n")
    (checkout / "launch" / "long.py").write_text("".join(f"print({line})\n" for line in range(30)))
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "y")
    change(checkout)
    (checkout / "launch" / "long.py").write_text("".join(f"print({line})  \n" for line in range(30) if line != 9))
    found = changes.changes(checkout)
    assert found is not None and not found.left_out
    assert changes.restore(checkout, git(checkout, "rev-parse", "HEAD"), found.patch, tmp_path / "again") is None
    assert fingerprint(contents(tmp_path / "again")) == fingerprint(contents(checkout))


def test_a_patch_that_does_not_apply_is_said_when_it_is_made(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(checkout)
    monkeypatch.setattr(changes, "_DIFF", (*changes._DIFF, "--no-prefix"))
    found = changes.changes(checkout)
    assert found is not None and found.left_out == "git cannot apply the patch that it made"


def test_an_edit_within_the_second_of_a_commit_is_part_of_the_patch(checkout: Path) -> None:
    """Size and time are then those that the index has, which is no newer itself."""
    code, index = checkout / "launch" / "train.py", checkout / ".git" / "index"
    git(checkout, "config", "core.trustctime", "false")
    os.utime(code, (10**9, 10**9))
    git(checkout, "update-index", "--refresh")
    code.write_text("print('new')\n")
    for file in (code, index):
        os.utime(file, (10**9, 10**9))
    (checkout / "launch" / "gain.py").write_text(NEW)
    found = changes.changes(checkout)
    assert found is not None and b"+print('new')" in found.patch


def test_without_changes_there_is_no_patch(checkout: Path) -> None:
    assert changes.changes(checkout) == changes.Changes()


def test_outside_a_repository_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert changes.changes(tmp_path) is None


def test_what_is_too_large_is_left_out_and_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(checkout)
    monkeypatch.setattr(changes, "MAX_FILE_BYTES", 10)
    found = changes.changes(checkout)
    assert found is not None and b"new file" not in found.patch and b"+print('new')" in found.patch
    assert found.left_out == "launch/gain.py is larger than 10 bytes" and found.untracked == ("launch/gain.py",)
    monkeypatch.setattr(changes, "MAX_PATCH_BYTES", 10)
    found = changes.changes(checkout)
    assert found is not None and found.patch == b"" and "more than 10" in found.left_out


def test_what_git_cannot_restore_is_said_in_its_words(checkout: Path, tmp_path: Path) -> None:
    missing = changes.restore(checkout, "0" * 40, b"", tmp_path / "a")
    assert missing is not None and "0" * 40 in missing
    commit = git(checkout, "rev-parse", "HEAD")
    broken = changes.restore(checkout, commit, b"no patch", tmp_path / "b")
    assert broken is not None and "patch" in broken


def test_the_fingerprint_follows_names_and_contents(checkout: Path) -> None:
    before = fingerprint(contents(checkout))
    (checkout / "launch" / "gone.py").rename(checkout / "launch" / "here.py")
    assert fingerprint(contents(checkout)) != before
    (checkout / "launch" / "here.py").rename(checkout / "launch" / "gone.py")
    (checkout / "notes.md").write_text("others\n")
    assert fingerprint(contents(checkout)) == before
