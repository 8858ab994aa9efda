"""A copy of the code as it is when jobs are submitted: editing the checkout does not change a queued job."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from configs.errors import MachineError
from configs.support.paths import ROOT

FOLDERS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")
_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".txt", ".csv")


def take(folder: Path) -> Path:
    """The folder of the snapshot, `<folder>/<hash of the files>`; the same code is copied once."""
    files = _files()
    target = folder / _fingerprint(files)
    if not target.is_dir():
        _write(files, target)
    return target


def _write(files: Mapping[str, bytes], target: Path) -> None:
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=folder))
        for place in sorted({os.path.dirname(name) for name in files}):
            (temporary / place).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        for name in _links():
            (temporary / name).symlink_to(ROOT / name)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except OSError as error:
        raise MachineError(f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir") from error


def commit() -> str:
    """The checkout's git commit, with a plus when files differ from it; empty outside a checkout."""
    lines = _git("status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", *FOLDERS).splitlines()
    heads = [line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid ")]
    changed = any(not line.startswith("#") for line in lines)
    return heads[0] + ("+" if changed else "") if heads else ""


def _files() -> dict[str, bytes]:
    """The code by its name from the project's root."""
    found = {}
    for folder in FOLDERS:
        for place, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                file = Path(place, name)
                if name.endswith(_SUFFIXES) and file.is_file():  # an editor's lock is a link to nowhere
                    found[str(file.relative_to(ROOT))] = file.read_bytes()
    return dict(sorted(found.items()))


def _links() -> list[str]:
    """What lies beside the code (data, runs, weights): linked, so that relative paths mean the same in the snapshot."""
    found = {path.name for path in ROOT.iterdir() if path.name not in FOLDERS and not path.name.startswith(".")}
    return sorted(found | {"runs"})


def _fingerprint(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:12]


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
