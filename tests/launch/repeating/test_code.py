"""--code finds the code of a run: here, where it ran, or in git with the changes it recorded."""

import subprocess
import sys
from pathlib import Path

import pytest

from quell.configs.errors import CheckpointError
from quell.configs.source_code.files import contents, fingerprint
from quell.configs.support.json_files import Record
from quell.configs.support.paths import ROOT
from quell.launch.capsule import files
from quell.launch.capsule.start import code_facts
from quell.launch.repeating import code
from quell.launch.repeating.code import code_of
from tests.support.commands import Command
from tests.support.small_runs import SMALL_CONFIG


def git(root: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, "-C", str(root), *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project with one commit, in place of this one."""
    root = tmp_path / "project"
    (root / "launch").mkdir(parents=True)
    (root / "launch" / "train.py").write_text("print('old')\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        git(root, *words)
    monkeypatch.setattr(code, "ROOT", root)
    return root


def started(root: Path, run: Path, commit: str) -> Record:
    return {"code": code_facts(run, root, commit)}


def head(root: Path) -> str:
    words = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_code_that_was_never_committed_is_restored_from_the_run(checkout: Path, tmp_path: Path) -> None:
    (checkout / "launch" / "train.py").write_text("print('then')\n")
    (checkout / "launch" / "new.py").write_text("NEW = 1\n")
    start = started(checkout, tmp_path, head(checkout) + "+")
    assert code_of(tmp_path, start, tmp_path / "empty") == (checkout, []), "the code that is here"
    (checkout / "launch" / "train.py").write_text("print('now')\n")
    (checkout / "launch" / "new.py").unlink()
    place, notes = code_of(tmp_path, start, tmp_path)
    assert (place / "launch" / "train.py").read_text() == "print('then')\n" and notes == []
    assert fingerprint(contents(place)) == start["code"]["fingerprint"]


def test_the_folder_that_it_ran_from_is_taken_where_it_is_unchanged(checkout: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    (snapshot / "launch").mkdir(parents=True)
    (snapshot / "launch" / "train.py").write_text("print('snapshot')\n")
    start = started(snapshot, tmp_path, "")
    assert code_of(tmp_path, start, tmp_path / "empty") == (snapshot, [])
    (snapshot / "launch" / "train.py").write_text("print('edited')\n")
    with pytest.raises(CheckpointError, match="did not record the commit"):
        code_of(tmp_path, start, tmp_path / "empty")


def test_code_that_is_not_quite_the_same_is_said_to_be_so(checkout: Path, tmp_path: Path) -> None:
    start = started(checkout, tmp_path, head(checkout))
    start["code"] |= {"fingerprint": "0123456789ab", "left_out": "launch/big.py is larger than 200000 bytes"}
    place, notes = code_of(tmp_path, start, tmp_path)
    assert place != checkout and "not quite that of the run: launch/big.py is larger" in notes[0]
    older = {"code": {"commit": head(checkout) + "+"}}
    _, notes = code_of(tmp_path, older, tmp_path / "second")
    assert notes == ["what its code differed in from the commit was not recorded"]


def test_a_commit_that_git_does_not_have_is_refused(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be checked out"):
        code_of(tmp_path, {"code": {"commit": "1" * 40}}, tmp_path)


def test_a_lost_patch_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / "launch" / "train.py").write_text("print('then')\n")
    start = started(checkout, tmp_path, head(checkout) + "+")
    (checkout / "launch" / "train.py").write_text("print('now')\n")
    (files.folder_of(tmp_path) / start["code"]["changes"]).unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        code_of(tmp_path, start, tmp_path)


@pytest.mark.slow
def test_a_run_of_two_ranks_and_uncommitted_code_is_repeated_with_that_code(
    command: Command, mini: Path, tmp_path: Path
) -> None:
    """The run trains with half the loss of the code that repeats it, on two processes and then on one."""
    project = tmp_path / "project"
    for name, content in contents(ROOT).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(content)
    (project / "small.yaml").write_bytes((ROOT / SMALL_CONFIG).read_bytes())
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        git(project, *words)
    loss = project / "pipelines" / "dual_domain.py"
    committed = loss.read_text()
    loss.write_text(committed.replace("return PhaseOutput(", "return PhaseOutput(0.5 * ", 1))
    assert loss.read_text() != committed
    options = {"cwd": project, "env": {"PYTHONPATH": str(project)}}
    script: list[object] = [project / "launch" / "train.py", "--config", project / "small.yaml", f"data.root={mini}"]
    script += ["loop.max_steps=6", "--run-dir", tmp_path / "run"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command([*torchrun, *script, "--stop-at", 3], **options)
    command([sys.executable, *script], **options)
    loss.write_text(committed)
    repeat = [sys.executable, "-m", "quell", "repeat", str(tmp_path / "run"), "--run-dir"]
    command([*repeat, tmp_path / "other"], **options, code=7)
    result = command([*repeat, tmp_path / "same", "--code"], **options)
    assert "weights at step 6: identical" in result.output
    assert [result.output.count(f"--stop-at {step} ") for step in (3, 6)] == [1, 1]
