"""Show the tutorials with their results, where docs/support/tutorials.py has run them, and offer them as notebooks."""

import base64
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from docs.support import tutorials

NOTE = "*[This page as a notebook]({notebook}){{: download }}{state}*\n"
MAX_LINES = 40
"""Lines of a cell's output that are shown; the rest is in the notebook."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace each tutorial by its text with results, and add its notebook and pictures."""
    for tutorial in tutorials.tutorials():
        place = f"tutorials/{tutorial.name}"
        kept = tutorials.results_of(tutorial)
        notebook = nbformat.read(kept, as_version=4) if kept.exists() else tutorials.notebook_of(tutorial)
        stem = tutorial.stem
        state = "" if kept.exists() else ", which this site was built without running"
        text, pictures = rendered(notebook, stem)
        title, _, rest = text.partition("\n")
        note = NOTE.format(notebook=f"{stem}.ipynb", state=state)
        files.remove(files.src_uris[place])
        files.append(File.generated(config, place, content=f"{title}\n\n{note}{rest}"))
        files.append(File.generated(config, f"tutorials/{stem}.ipynb", content=nbformat.writes(notebook)))
        for name, picture in pictures.items():
            files.append(File.generated(config, posixpath.join("tutorials", name), content=picture))
    return files


def rendered(notebook: nbformat.NotebookNode, stem: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by file name, which begins with `stem`."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        is_bash = cell.source.startswith("%%bash")
        source = cell.source.removeprefix("%%bash\n")
        parts.append(f"```{'bash' if is_bash else 'python'}\n{source}\n```")
        for output in joined(cell.get("outputs", [])):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{stem}-{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![{alternative_text(source)}]({name})")
            elif text := printed(output.get("text") or data.get("text/plain", "")):
                parts.append(f"``` {{ .text .result }}\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs of a cell, with the pieces that were printed one after the other as one."""
    together: list[nbformat.NotebookNode] = []
    for output in outputs:
        if together and output.output_type == together[-1].output_type == "stream":
            together[-1] = nbformat.NotebookNode({**output, "text": together[-1].text + output.text})
        else:
            together.append(output)
    return together


def printed(text: str) -> str:
    """What a terminal would show of an output, without colours, at most MAX_LINES lines of it."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    lines = [line.rstrip().rpartition("\r")[2] for line in text.rstrip().split("\n")]
    if len(lines) > MAX_LINES:
        lines[MAX_LINES // 2 : -MAX_LINES // 2] = ["..."]
    return "\n".join(lines)


def alternative_text(source: str) -> str:
    """What a picture shows, for readers who do not see it: the comment that its cell begins with, else its code."""
    first = source.splitlines()[0]
    return first.removeprefix("#").strip() if first.startswith("#") else f"result of {source.splitlines()[-1]}"
