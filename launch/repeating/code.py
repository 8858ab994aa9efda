"""The code of a run: that which is here, the snapshot it ran from, or its commit with its recorded changes."""

from pathlib import Path

from quell.configs.errors import CheckpointError
from quell.configs.source_code import changes, files
from quell.configs.support.json_files import Record
from quell.configs.support.paths import ROOT
from quell.launch.capsule.files import read_part


def code_of(run: Path, start: Record, folder: Path) -> tuple[Path, list[str]]:
    """Where the code is that a run was started with.

    Args:
        run: The run folder.
        start: What it recorded at that start.
        folder: An empty folder in which its commit may be checked out.

    Returns:
        The root of the code, and sentences on what is not known of it.

    Raises:
        CheckpointError: It was not recorded, or git does not have it.
    """
    recorded = start.get("code", {})
    wanted, commit = recorded.get("fingerprint"), str(recorded.get("commit") or "")
    for place in (ROOT, Path(recorded.get("folder") or ROOT)):
        if wanted and (place / "launch").is_dir() and files.fingerprint(files.contents(place)) == wanted:
            return place, []
    if not commit:
        raise CheckpointError(f"{run} did not record the commit of its code: repeat it without --code")
    patch = read_part(run, recorded.get("changes"))
    if recorded.get("changes") and patch is None:
        raise CheckpointError(
            f"{run}: the capsule's {recorded['changes']} is missing or damaged: restore it, or repeat without --code"
        )
    target = folder / commit[:12]
    if problem := changes.restore(ROOT, commit.rstrip("+"), patch or b"", target):
        raise CheckpointError(f"the code of {run}, commit {commit}, cannot be checked out from {ROOT}: {problem}")
    if not wanted:
        unknown = "what its code differed in from the commit was not recorded"
        return target, [unknown] if commit.endswith("+") else []
    if files.fingerprint(files.contents(target)) != wanted:
        reason = recorded.get("left_out") or "files that git ignores may have been part of it"
        return target, [f"the code that was checked out is not quite that of the run: {reason}"]
    return target, []


def can_stop(code: Path) -> bool:
    """Whether the training script of this code knows --stop-at."""
    return "--stop-at" in (code / "launch" / "train.py").read_text(encoding="utf-8")
