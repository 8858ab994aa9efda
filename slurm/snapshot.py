"""A copy of the code as it is when jobs are submitted: editing the checkout does not change a queued job."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from configs.errors import EnvironmentProblem
from configs.registry import ROOT

FOLDERS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")
_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".txt", ".csv")


def take(folder: Path) -> Path:
    """The folder of the snapshot, `<folder>/<hash of the files>`; the same code is copied once."""
    files = _files()
    target = folder / _fingerprint(files)
    if not target.is_dir():
        _copy(files, target)
    return target


def _copy(files: list[Path], target: Path) -> None:
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=folder))
        for file in files:
            copy = temporary / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        for name in _links():
            (temporary / name).symlink_to(ROOT / name)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir"
        ) from error


def commit() -> str:
    """The checkout's git commit, with a plus when files differ from it; empty outside a checkout."""
    head = _git("rev-parse", "HEAD")
    return head + ("+" if head and _git("status", "--porcelain", "--untracked-files=no", "--", *FOLDERS) else "")


def _files() -> list[Path]:
    found = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.suffix in _SUFFIXES]
    return sorted(file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _links() -> list[str]:
    """What lies beside the code (data, runs, weights): linked, so that relative paths mean the same in the snapshot."""
    found = {path.name for path in ROOT.iterdir() if path.name not in FOLDERS and not path.name.startswith(".")}
    return sorted(found | {"runs"})


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
