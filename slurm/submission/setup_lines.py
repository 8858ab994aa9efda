"""A site's setup as part of an sbatch script: every command is checked, and the first that fails ends the job."""

import shlex
import subprocess
from collections.abc import Sequence

_CHECK = (
    'quell_check() { [ "$1" -eq 0 ] || { echo "quell: the site\'s setup failed with exit code $1: $2" >&2; exit 6; }; }'
)
"""A shell function that ends the job with exit code 6, the machine's."""


def script_lines(setup: Sequence[str]) -> list[str]:
    """The setup's lines, each complete command followed by a check of its exit code.

    A command may be spread over several entries, as `if ...; then`, `...`, `fi`.
    """
    if not setup:
        return []
    lines, command = [_CHECK], ""
    for entry in setup:
        command = f"{command}\n{entry}" if command else entry
        if _is_complete(command):
            lines += [command, f"quell_check $? {shlex.quote(' '.join(command.split()))}"]
            command = ""
    return [*lines, command] if command else lines  # never complete: bash itself will name the line


def _is_complete(command: str) -> bool:
    """Whether bash can read it as it stands; a line that ends in a backslash goes on in the next one."""
    if command.rstrip("\n").endswith("\\"):
        return False
    try:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return True  # no bash here to ask: each entry counts as a command, as in most site files
    return done.returncode == 0 and not done.stderr
