"""Run the tutorials of docs/tutorials/ as notebooks and keep what they print and draw.

    python docs/support/tutorials.py                  # those whose text has changed since they ran
    python docs/support/tutorials.py noise --again    # one, even so

A tutorial is a Markdown file that jupytext reads as a notebook: its blocks of Python and bash are the cells. Each runs
in an empty folder, as for a reader who has installed Quell. The results are kept as notebooks in build/tutorials/, from
where docs/support/results.py takes them into the site.
"""

import argparse
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import jupytext  # type: ignore[import-untyped]
import nbclient
import nbformat
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "docs" / "tutorials"
RESULTS = ROOT / "build" / "tutorials"
CELL_TIMEOUT_S, STARTUP_S = 900, 300

HEADER = """---
jupyter:
  kernelspec:
    display_name: Python 3
    language: python
    name: python3
---

"""
"""Without it jupytext takes the language of most cells for that of the notebook, which often is bash."""


def tutorials() -> list[Path]:
    """The tutorials, by name."""
    return sorted(path for path in FOLDER.glob("*.md") if path.stem != "README")


def results_of(tutorial: Path) -> Path:
    """Where the results of a tutorial with its present text are kept."""
    digest = hashlib.sha256(tutorial.read_bytes()).hexdigest()[:12]
    return RESULTS / f"{tutorial.stem}-{digest}.ipynb"


def notebook_of(tutorial: Path) -> nbformat.NotebookNode:
    """A tutorial as a notebook without outputs."""
    return jupytext.reads(HEADER + tutorial.read_text("utf-8"), fmt="md")


def run(tutorial: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a tutorial in an empty folder.

    Args:
        tutorial: Markdown file.
        folder: Where it works; created, and left behind with what the tutorial wrote.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: A cell failed; the message shows it with its output.
    """
    notebook = notebook_of(tutorial)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tools:
        sockets = Config(AsyncKernelManager={"transport": "ipc", "ip": f"{tools}/kernel"})
        client = nbclient.NotebookClient(
            notebook,
            config=sockets,
            timeout=CELL_TIMEOUT_S,
            startup_timeout=STARTUP_S,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute(env=environment(Path(tools), folder))
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = output["text"].replace(str(folder), "~/quell")
    return notebook


def environment(tools: Path, folder: Path) -> dict[str, str]:
    """The environment of a tutorial: `quell` is this project, and a failing line ends its cell."""
    strict = tools / "strict.sh"
    strict.write_text("set -euo pipefail\nunset BASH_ENV\n")
    command = tools / "quell"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quell "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    settings = {"PYTHONPATH": ROOT, "BASH_ENV": strict, "NO_COLOR": 1}
    return {**os.environ, "PATH": path, **{name: str(value) for name, value in settings.items()}}


def main(arguments: list[str] | None = None) -> int:
    """Run tutorials that have no results yet; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="tutorials to run (default: all)")
    parser.add_argument("--again", action="store_true", help="also run those that have results")
    options = parser.parse_args(arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    for tutorial in tutorials():
        result = results_of(tutorial)
        if (options.names and tutorial.stem not in options.names) or (result.exists() and not options.again):
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as work:
            try:
                notebook = run(tutorial, Path(work) / "quell")
            except CellExecutionError as error:
                print(f"{tutorial.stem}: {error}", file=sys.stderr)
                return 1
        for old in RESULTS.glob(f"{tutorial.stem}-*.ipynb"):
            old.unlink()
        nbformat.write(notebook, result)
        print(f"{tutorial.stem}: {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
