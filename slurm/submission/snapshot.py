"""A copy of the code at the time of submission: editing the checkout does not change a queued job."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from configs.errors import MachineError
from configs.support import git
from configs.support.paths import ROOT

FOLDERS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")
_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".txt", ".csv")


def take(folder: Path) -> Path:
    """Copy the code to `<folder>/<hash of the files>`, unless that is there already; returns this path."""
    files = _files()
    target = _target(folder, files)
    if not target.is_dir():
        _write(files, target)
    return target


def location(folder: Path) -> Path:
    """Where `take` would copy the code to."""
    return _target(folder, _files())


def commit() -> str:
    """The commit of the code that is copied, with a plus if files differ from it; empty outside a git checkout."""
    return git.checked_out_commit(ROOT, FOLDERS)


def _write(files: Mapping[str, bytes], target: Path) -> None:
    """Write to a temporary folder and rename it, so that a target that exists is complete."""
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=folder))
        for parent in sorted({os.path.dirname(name) for name in files}):
            (temporary / parent).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        for name in _linked_names():
            (temporary / name).symlink_to(ROOT / name)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except OSError as error:
        raise MachineError(f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir") from error


def _files() -> dict[str, bytes]:
    """The contents of the code's files, by their path from the project's root."""
    contents = {}
    for folder in FOLDERS:
        for parent, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                file = Path(parent, name)
                if name.endswith(_SUFFIXES) and file.is_file():  # an editor's lock file is a dangling link
                    contents[str(file.relative_to(ROOT))] = file.read_bytes()
    return dict(sorted(contents.items()))


def _linked_names() -> list[str]:
    """What lies beside the code (data, runs, weights) and is linked, so that relative paths mean the same."""
    names = {path.name for path in ROOT.iterdir() if path.name not in FOLDERS and not path.name.startswith(".")}
    return sorted(names | {"runs"})


def _target(folder: Path, files: Mapping[str, bytes]) -> Path:
    return folder / _fingerprint(files)


def _fingerprint(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:12]
