"""The site builds without a warning, loads nothing from other servers, and shows pages, results and pictures."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

from docs.support import outside, results, tutorials
from quell.command_line import COMMANDS
from quell.configs import registry, studies
from quell.configs.support.paths import ROOT
from tests.support.commands import Command

LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?:[^\s\">]*)")
"""Addresses that a browser asks for by itself."""

MAX_PICTURE_BYTES = 150_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    env = {"NO_MKDOCS_2_WARNING": "1"}
    command([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder], cwd=ROOT, env=env)
    return folder


@pytest.mark.xdist_group("site")
def test_the_site_has_every_page_and_asks_no_other_server(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    missing = [
        path.relative_to(ROOT / "docs").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if path.name != "README.md" and path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() not in pages
    ]
    assert missing == []
    assert {
        "contributing.html",
        "changelog.html",
        "reference/commands.html",
        "reference/configuration.html",
    } <= pages.keys()
    assert {name: addresses for name, text in pages.items() if (addresses := LOADED.findall(text))} == {}
    assert [name for name, text in pages.items() if 'class="mermaid"' in text] == []


@pytest.mark.xdist_group("site")
def test_what_is_generated_from_the_code_is_there_and_can_be_found(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text("utf-8")
    assert [name for name in COMMANDS if f'id="quell-{name}"' not in commands] == []
    assert "--resume auto|never|PATH" in commands
    found = json.loads((site / "search" / "search_index.json").read_text("utf-8"))["docs"]
    assert any(entry["location"].startswith("reference/commands.html#quell-train") for entry in found)
    assert not any(entry["location"].startswith("source/") for entry in found)


def test_the_gallery_shows_a_small_picture_of_every_method() -> None:
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs" / "gallery").glob("*.webp")}
    assert pictures.keys() == studies.load("gallery").runs.keys()
    assert max(pictures.values()) < MAX_PICTURE_BYTES
    page = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert [name for name in pictures if f"(gallery/{name}.webp)" not in page] == []
    shown = {studies.load("gallery").runs[name].config for name in pictures} - {"quickstart"}
    assert shown | {"cross_guided", "dual_domain"} == set(registry.names("pipelines"))


def test_links_that_leave_the_folder_lead_to_pages() -> None:
    text = "[a](../CONTRIBUTING.md#names) [b](../configs/errors.py) [c](data.md) [d](https://x.org/y) [e](../README.md)"
    assert outside.moved(text, "docs/slurm.md", "slurm.md") == (
        "[a](contributing.md#names) [b](source/configs/errors.py.md) [c](data.md) [d](https://x.org/y) [e](README.md)"
    )
    assert outside.moved("[a](docs/noise.md)", "CONTRIBUTING.md", "contributing.md") == "[a](noise.md)"
    assert outside.moved("[a](../../CHANGELOG.md)", "docs/how_to/train.md", "how_to/train.md") == "[a](../changelog.md)"


def test_a_notebook_becomes_a_page_with_its_results() -> None:
    notebook = nbformat.v4.new_notebook()
    bash = nbformat.v4.new_code_cell("%%bash\nls")
    bash.outputs = [nbformat.v4.new_output("stream", text="1 %\r2 %\n\x1b[31mred\x1b[0m\n")]
    drawn = nbformat.v4.new_code_cell("# A slice\nshow()")
    drawn.outputs = [nbformat.v4.new_output("display_data", {"image/png": "QUJD", "text/plain": "<Figure>"})]
    notebook.cells = [nbformat.v4.new_markdown_cell("# Title"), bash, drawn]
    text, pictures = results.rendered(notebook, "first")
    assert text == (
        "# Title\n\n```bash\nls\n```\n\n``` { .text .result }\n2 %\nred\n```\n\n"
        "```python\n# A slice\nshow()\n```\n\n![A slice](first-1.png)\n"
    )
    assert pictures == {"first-1.png": b"ABC"}


def test_long_output_is_shortened_in_the_middle() -> None:
    lines = results.printed("\n".join(map(str, range(1000)))).splitlines()
    assert lines[0] == "0" and lines[-1] == "999" and "..." in lines and len(lines) == results.MAX_LINES + 1


def test_blocks_of_a_tutorial_are_cells_whatever_their_language() -> None:
    for tutorial in tutorials.tutorials():
        cells = tutorials.notebook_of(tutorial).cells
        text = tutorial.read_text("utf-8")
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        assert sum(source.startswith("%%bash\n") for source in code) == len(re.findall("^```bash$", text, re.MULTILINE))
        assert len(code) == len(re.findall("^```(?:bash|python)$", text, re.MULTILINE)) > 0
