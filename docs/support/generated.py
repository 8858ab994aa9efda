"""Reference pages that are generated from the code: the commands with their arguments, the keys of configurations."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from quell.command_line import COMMANDS
from quell.schema import reference

ROOT = Path(__file__).resolve().parent.parent.parent

COMMANDS_PAGE, CONFIGURATION_PAGE = "reference/commands.md", "reference/configuration.md"
SUBCOMMANDS = ("submit status", "submit logs", "submit cancel")
"""Words after a command that have arguments of their own."""

WIDTH = 100
INTRODUCTION = """# Commands

Every command is a word after `quell`. In a checkout that is not installed, `python -m quell` does the same. Exit codes
are listed in [`configs/errors.py`](../source/configs/errors.py.md).

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, COMMANDS_PAGE, content=commands_page()))
    files.append(File.generated(config, CONFIGURATION_PAGE, content=reference.page()))
    return files


def commands_page() -> str:
    """Every command with what `--help` prints of it."""
    names = [*COMMANDS, *SUBCOMMANDS]
    with ThreadPoolExecutor(max_workers=2) as pool:
        texts = dict(zip(names, pool.map(help_text, names), strict=True))
    page = INTRODUCTION + "| command | does |\n|---|---|\n"
    page += "".join(f"| [`quell {name}`](#quell-{name}) | {command.help} |\n" for name, command in COMMANDS.items())
    for name in sorted(names, key=lambda name: list(COMMANDS).index(name.split()[0])):
        page += f"\n## quell {name}\n\n```text\n{texts[name]}\n```\n"
    return page


def help_text(name: str) -> str:
    """What `quell NAME --help` prints.

    Raises:
        PluginError: The command fails.
    """
    command = [sys.executable, "-m", "quell", *name.split(), "--help"]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise PluginError(f"{' '.join(command)} fails:\n{finished.stderr}")
    return finished.stdout.strip()
