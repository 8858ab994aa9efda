"""A copy of the code at the time of submission: editing the checkout does not change a queued job.

It is laid out as an installed package, `quell/launch/train.py`, beside links to what lies in the user's folder. A job
imports from it what it would import there: nothing but `quell` is added, and a `models` of the user's own is found.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from quell.configs.errors import MachineError
from quell.configs.source_code import files as source_code
from quell.configs.source_code.files import DATA, FOLDERS, PACKAGE
from quell.configs.support import git
from quell.configs.support.paths import ROOT, base


def take(folder: Path) -> Path:
    """Copy the code to `<folder>/<hash of the files>`, unless that is there already; returns this path."""
    files = source_code.contents(ROOT)
    target = _target(folder, files)
    if not target.is_dir():
        _write(files, target)
    return target


def location(folder: Path) -> Path:
    """Where `take` would copy the code to."""
    return _target(folder, source_code.contents(ROOT))


def commit() -> str:
    """The commit of the code that is copied, with a plus if files differ from it; empty outside a git checkout."""
    return git.checked_out_commit(ROOT, FOLDERS)


def packaged(name: str) -> str:
    """Where a file of a checkout is in the copy."""
    return name if name.startswith(f"{PACKAGE}/") else f"{PACKAGE}/{name}"


def _write(files: Mapping[str, bytes], target: Path) -> None:
    """Write to a temporary folder and rename it, so that a target that exists is complete."""
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=folder))
        for name, content in files.items():
            file = temporary / packaged(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        for name in filter(lambda name: (ROOT / name).is_dir(), DATA):  # linked, not copied
            (temporary / packaged(name)).parent.mkdir(parents=True, exist_ok=True)
            (temporary / packaged(name)).symlink_to(ROOT / name)
        for name in _linked_names():
            (temporary / name).symlink_to(base() / name)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except OSError as error:
        raise MachineError(f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir") from error


def _linked_names() -> list[str]:
    """What lies in the user's folder (data, runs, weights) and is linked, so that relative paths mean the same."""
    code = FOLDERS if base() == ROOT else (PACKAGE,)
    names = {path.name for path in base().iterdir() if path.name not in code and not path.name.startswith(".")}
    return sorted(names | {"runs"})


def _target(folder: Path, files: Mapping[str, bytes]) -> Path:
    return folder / source_code.fingerprint(files)
