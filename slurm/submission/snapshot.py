"""A copy of the code at the time of submission: editing the checkout does not change a queued job."""

import hashlib
import os
import tempfile
from collections.abc import Container, Mapping
from pathlib import Path

from quell.configs.errors import MachineError
from quell.configs.support import git
from quell.configs.support.paths import IS_INSTALLED, ROOT, base

ROOMS = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")
PACKAGE = "quell"
FOLDERS = (*ROOMS, PACKAGE)
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
            (temporary / name).symlink_to(base() / name)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except OSError as error:
        raise MachineError(f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir") from error


def _files() -> dict[str, bytes]:
    """The contents of the code's files, by their path in the copy, which is laid out as a checkout."""
    package = ROOT if IS_INSTALLED else ROOT / PACKAGE
    contents = {name: content for room in ROOMS for name, content in _files_below(ROOT / room, room).items()}
    return dict(sorted({**contents, **_files_below(package, PACKAGE, without=ROOMS)}.items()))


def _files_below(folder: Path, name: str, *, without: Container[str] = ()) -> dict[str, bytes]:
    """The contents of a folder's files by their path in the copy, where it is called `name`."""
    contents = {}
    for parent, folders, names in os.walk(folder):
        is_top = Path(parent) == folder
        folders[:] = [inner for inner in folders if inner != "__pycache__" and not (is_top and inner in without)]
        for file in (Path(parent, file_name) for file_name in names):
            if file.name.endswith(_SUFFIXES) and file.is_file():  # an editor's lock file is a dangling link
                contents[f"{name}/{file.relative_to(folder).as_posix()}"] = file.read_bytes()
    return contents


def _linked_names() -> list[str]:
    """What lies beside the code (data, runs, weights) and is linked, so that relative paths mean the same."""
    names = {path.name for path in base().iterdir() if path.name not in FOLDERS and not path.name.startswith(".")}
    return sorted(names | {"runs"})


def _target(folder: Path, files: Mapping[str, bytes]) -> Path:
    return folder / _fingerprint(files)


def _fingerprint(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:12]
