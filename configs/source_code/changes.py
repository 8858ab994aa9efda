"""What the code that runs differs in from its commit, as a patch that `git apply` reads."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from quell.configs.source_code.files import FOLDERS, SUFFIXES

MAX_PATCH_BYTES = 2_000_000
"""Largest patch that is kept."""
MAX_FILE_BYTES = 200_000
"""Largest file of code that git does not track and the patch adds."""
MAX_NAMES = 100
"""Most names of such files that are listed."""

_TIMEOUT_S = 20

_DIFF = (
    "-c", "diff.relative=false", "diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--unified=3",
    "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "HEAD",
)  # fmt: skip
"""What a user may have set otherwise (diff.noprefix, diff.context, textconv) makes patches that do not apply."""


class Changes(NamedTuple):
    """Differences from the commit that is checked out."""

    patch: bytes = b""
    """In git's format, with new files; empty where there are none, or more than MAX_PATCH_BYTES of them."""
    untracked: tuple[str, ...] = ()
    """Files of the code that git does not track, by path; the patch adds those that are no larger than MAX_FILE_BYTES.
    """
    left_out: str = ""
    """What the patch lacks, in a sentence."""


def changes(root: Path) -> Changes | None:
    """The differences of a checkout from its commit; None where git cannot tell, as outside a checkout.

    Tracked files count wherever they are; files that git neither tracks nor ignores count in the folders of the code.
    The checkout and its index are left as they are.
    """
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *FOLDERS)
    if listed is None or _git(root, "rev-parse", "--verify", "--quiet", "HEAD") is None:
        return None
    names = [name for name in os.fsdecode(listed).split("\0") if name.endswith(SUFFIXES)]
    added = [name for name in names if _size(root / name) <= MAX_FILE_BYTES]
    patch = _patch(root, added)
    if patch is None:
        return None
    missing = [f"{name} is larger than {MAX_FILE_BYTES} bytes" for name in names if name not in added]
    if patch and _git(root, "apply", "--check", "--reverse", "--whitespace=nowarn", "-", given=patch) is None:
        missing.append("git cannot apply the patch that it made")
    if len(patch) > MAX_PATCH_BYTES:
        patch, missing = b"", [f"the patch has {len(patch)} bytes, more than {MAX_PATCH_BYTES}"]
    return Changes(patch, tuple(names[:MAX_NAMES]), "; ".join(missing))


def restore(repository: Path, commit: str, patch: bytes, target: Path) -> str | None:
    """Check out a commit into a new folder, which shares the repository's objects, and apply a patch to it.

    Args:
        repository: A checkout that has the commit; it is left as it is.
        commit: Forty hexadecimal digits.
        patch: Of `Changes`, may be empty.
        target: A folder that does not exist yet.

    Returns:
        Why that is not possible, in git's words; None where it was done.
    """
    steps: list[tuple[Sequence[str], bytes]] = [
        (("clone", "--quiet", "--shared", "--no-checkout", str(repository), str(target)), b""),
        (("-C", str(target), "checkout", "--quiet", "--detach", commit), b""),
    ]
    if patch:
        steps.append((("-C", str(target), "apply", "--whitespace=nowarn", "-"), patch))
    for words, given in steps:
        try:
            ended = subprocess.run(["git", *words], input=given, capture_output=True, timeout=10 * _TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        if ended.returncode:
            return " ".join(ended.stderr.decode(errors="replace").split()) or f"git {words[0]} failed"
    return None


def _patch(root: Path, added: Sequence[str]) -> bytes | None:
    """`git diff HEAD`, in which files that git does not track are new ones."""
    if not added:
        return _git(root, *_DIFF)
    index = _git(root, "rev-parse", "--git-path", "index")
    if index is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "index"
        # with its time: git looks into files that are as old as the index, which may have changed within that second
        shutil.copy2(root / os.fsdecode(index.strip()), copy)
        environment = {"GIT_INDEX_FILE": str(copy)}
        if _git(root, "add", "--intent-to-add", "--", *added, environment=environment) is None:
            return None
        return _git(root, *_DIFF, environment=environment)


def _git(root: Path, *words: str, environment: dict[str, str] | None = None, given: bytes = b"") -> bytes | None:
    """What git prints; None where it fails."""
    command = ["git", "-C", str(root), "--literal-pathspecs", *words]
    try:
        ended = subprocess.run(
            command, input=given, env={**os.environ, **(environment or {})}, capture_output=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout if ended.returncode == 0 else None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
