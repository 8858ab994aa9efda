"""A copy of the code at the time of submission: editing the checkout does not change a queued job.

It is laid out as an installed package, `quell/launch/train.py`, beside links to what lies in the user's folder. A job
imports from it what it would import there: nothing but `quell` is added, and a `models` of the user's own is found.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from quell.configs.errors import MachineError
from quell.configs.source_code import files as source_code
from quell.configs.source_code.files import DATA, FOLDERS, PACKAGE
from quell.configs.support import git
from quell.configs.support.paths import ROOT, base

_PATH = re.compile(r"[\w.][^\s{}*]*/[^\s{}]*")
"""A relative path in a folder."""


def take(folder: Path) -> Path:
    """Copy the code to `<folder>/<hash of the files>`, unless that is there already; returns this path.

    What has been added to the user's folder since the copy was made is linked, too.
    """
    files = source_code.contents(ROOT)
    target = _target(folder, files)
    try:
        if not target.is_dir():
            _write(files, target)
        _link(target)
    except OSError as error:
        raise MachineError(f"cannot copy the code to {folder} ({error.strerror}): choose another --run-dir") from error
    return target


def unlinked_paths(words: Iterable[str]) -> list[str]:
    """Relative paths among the words of a command that are in no folder which is linked: they stay in the copy."""
    known = {*_linked_names(), *FOLDERS}
    paths = [word.rpartition("=")[2] for word in words]
    relative = [path for path in paths if _PATH.fullmatch(path) and "://" not in path]
    return [path for path in relative if path.partition("/")[0] not in known]


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
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".copying-", dir=folder))
    for name, content in files.items():
        file = temporary / packaged(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for name in filter(lambda name: (ROOT / name).is_dir(), DATA):  # linked, not copied
        (temporary / packaged(name)).parent.mkdir(parents=True, exist_ok=True)
        (temporary / packaged(name)).symlink_to(ROOT / name)
    temporary.chmod(0o755)
    os.rename(temporary, target)


def _link(target: Path) -> None:
    """Add the links that a copy lacks; one that is there stays, for a job may be using it."""
    for name in _linked_names():
        with suppress(FileExistsError):
            (target / name).symlink_to(base() / name)


def _linked_names() -> list[str]:
    """What lies in the user's folder (data, runs, weights) and is linked, so that relative paths mean the same."""
    code = FOLDERS if base() == ROOT else (PACKAGE,)
    names = {path.name for path in base().iterdir() if path.name not in code and not path.name.startswith(".")}
    return sorted(names | {"runs"})


def _target(folder: Path, files: Mapping[str, bytes]) -> Path:
    return folder / source_code.fingerprint(files)
