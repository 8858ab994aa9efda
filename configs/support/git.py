"""The commit of the code that runs."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 20


def git_commit(root: Path) -> str:
    """The commit of the code in `root`, with a plus if tracked files differ from it; empty outside a git checkout.

    A job that runs from a snapshot of the code, which is no checkout, finds its commit in $QUELL_COMMIT.
    """
    return os.environ.get("QUELL_COMMIT") or checked_out_commit(root)


def checked_out_commit(root: Path, folders: Sequence[str] = ()) -> str:
    """What git itself reports for `root`, looking for differences only in `folders` (all if empty)."""
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", *folders]
    try:
        output = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_S).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    headers = dict(line[2:].partition(" ")[::2] for line in output.splitlines() if line.startswith("# "))
    changed = any(not line.startswith("#") for line in output.splitlines())
    commit = headers.get("branch.oid", "(initial)")
    return "" if commit == "(initial)" else commit + ("+" if changed else "")
