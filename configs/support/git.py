"""The commit of the code that runs."""

import os
import subprocess
from pathlib import Path


def git_commit(root: Path) -> str:
    """The commit of the code, with a plus when files differ from it; empty outside a git checkout.

    A job that runs from a snapshot of the code is told its commit in QUELL_COMMIT.
    """
    if told := os.environ.get("QUELL_COMMIT"):
        return told

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=20).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""

    commit = git("rev-parse", "HEAD")
    return commit + ("+" if commit and git("status", "--porcelain", "--untracked-files=no") else "")
