"""The documentation is true: its commands run, its links and file names resolve, its YAML is valid.

Every fenced block has a language. Blocks tagged `bash` are run in order in a copy of the tree: README's first, because
the others may build on it. Long commands are run at a small size (see SMALLER); commands that need data or machines
that tests do not have are tagged `text`.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from quell.configs import loader
from quell.configs.support.paths import ROOT
from tests.support.commands import Command

README = ROOT / "README.md"
GUIDES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Documents with commands that run after those of the README."""
SHORT = sorted(path for room in ("how_to", "explanation", "reference") for path in (ROOT / "docs" / room).glob("*.md"))
"""Pages of the site whose commands run in the slow lane. Tutorials are run by tests/docs/test_tutorials.py."""
LONG = {ROOT / "docs" / "export.md"}
"""Guides whose commands take minutes: they run in the slow lane, too."""
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *GUIDES, *SHORT, *TUTORIALS]

LANGUAGES = {"bash", "json", "mermaid", "python", "text", "yaml"}
MAX_COLUMNS = 120
TIMEOUT_S = 1000

STEPS = "loop.max_steps=2 data.crop=32 data.limit=8 data.batch_size=4 evaluation.limit=2"
FEWER = "--train 8 --val 2 --test 2 --size 64"
SMALLER = (
    (
        r"^make train$",
        "make -n train && python -c 'from quell.launch import quickstart as start; "
        f'start.PHANTOM += "{FEWER}".split(); exit(start.main())\'',
        STEPS,
    ),
    (r"^make\b", r"make -n", ""),
    (r"\bpip install\b", r"pip install --dry-run --quiet --no-deps --no-index --no-build-isolation", ""),
    (r"\blaunch/(train|experiments|diagnose)\.py\b(?!.*--(dry-run|summary|help|run )\b)", r"\g<0>", STEPS),
    (r"\blaunch/evaluate\.py\b", r"\g<0>", "--limit 4"),
    (r"\bshards\.build phantom\b", r"\g<0>", FEWER),
    (r"\bbenchmarks/quality/noise\.py\b", r"\g<0>", "--steps 2 --rows white --limit 1"),
    (r"\btests\.campaign\b.*", r"tests.campaign --kills 1 --mutations 20", ""),
    (r"\bslurm/submit\.py\b", r"\g<0>", "--dry-run --set data.crop=32"),
)
"""How a command is shortened: (pattern, replacement, what is appended); the first pattern that matches applies."""

TOOLS = ".tools"
"""Folder of the copy in which `quell` means the copy, and not the tree that is installed."""

CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info")


def name_of(place: Path) -> str:
    """A document's path in the project, without its suffix."""
    return place.relative_to(ROOT).with_suffix("").as_posix()


class Block(NamedTuple):
    """A fenced block: the line it opens at, its language, its text."""

    line: int
    language: str
    text: str


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text."""
    opened: tuple[int, str, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"\s*(`{3,})\s*(\w*)", line)
        if opened is None and fence:
            opened, inside = (number, fence[2], fence[1]), []
        elif opened is not None and line.strip() == opened[2]:
            yield Block(opened[0], opened[1], "\n".join(inside))
            opened = None
        elif opened is not None:
            inside.append(line)
    assert opened is None, f"the block opened at line {opened} is never closed"


def smaller(script: str) -> str:
    """The same commands at the size of a test; a command is a line with its continuation lines."""
    lines = []
    for line in script.replace("\\\n", " ").splitlines():
        command, _comment, _ = line.partition(" #")
        for pattern, replacement, added in SMALLER:
            if re.search(pattern, command.strip()):
                command = re.sub(pattern, replacement, command.strip())
                command = re.sub(r"\s*($|[>|])", rf" {added} \1", command, count=1)
                break
        lines.append(command)
    return "\n".join(lines)


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^\s*(`{3,}).*?^\s*\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a text's headings, as GitHub derives them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(place: Path, root: Path = ROOT) -> list[str]:
    """Links, paths and function names in a document that do not exist in this repository."""
    text = place.read_text("utf-8")
    problems = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(text)):
        path, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        file = (place.parent / path).resolve() if path else place
        if not file.exists() or (file != root and root not in file.parents):
            problems.append(f"link to {target}")
        elif anchor and anchor not in anchors(file.read_text("utf-8")):
            problems.append(f"link to {target}: no such heading")
    folders = "|".join(path.parent.name for path in ROOT.glob("*/__init__.py")) + "|tests|docs|benchmarks"
    printed = re.findall(r"^`([\w./]+)`[^\n]*:\n\n```", text, flags=re.MULTILINE)
    for name in re.findall(rf"`((?:{folders})/(?:[\w./-]+\.\w+|(?:[\w-]+/)*))`", prose(text)):
        if not (root / name).exists() and name not in printed:
            problems.append(f"file {name}")
    problems += [f"{name} in {file}" for name, file in missing_functions(prose(text), root)]
    machine = re.findall(r"(?<![\w.:/])/(?:home|root|work|opt|Users)/\S*", text)
    return problems + [f"path of a machine {path}" for path in machine]


def missing_functions(text: str, root: Path) -> list[tuple[str, str]]:
    """Names that a text gives as "`name` in `file.py`", but which the file does not define."""
    missing = []
    for names, file in re.findall(r"((?:`[\w.]+`(?:,\s+|\s+and\s+)?)+)\s+in\s+`([\w/]+\.py)`", text):
        code = (root / file).read_text("utf-8") if (root / file).exists() else ""
        for name in re.findall(r"`([\w.]+)`", names):
            if not all(re.search(rf"\b(?:def|class) {part}\b", code) for part in name.split(".")):
                missing.append((name, file))
    return missing


def wide_lines(place: Path) -> list[str]:
    """Lines with more than MAX_COLUMNS columns, apart from table rows, which cannot be wrapped."""
    lines = enumerate(place.read_text("utf-8").splitlines(), 1)
    return [f"{place.name}:{n}" for n, line in lines if len(line) > MAX_COLUMNS and not line.startswith("|")]


def not_source(folder: str, names: list[str]) -> set[str]:
    """What the copy of the tree leaves out: caches anywhere, and at the top what git does not track."""
    top_level = {".git", ".venv", "runs"} if Path(folder) == ROOT else set()
    return CACHES(folder, names) | top_level.intersection(names)


def run_blocks(place: Path, workspace: Path, command: Command, data: Path | None) -> None:
    """Run every bash block of a document; those that need the real data only where it is available."""
    folders = (workspace / TOOLS, Path(sys.executable).parent, os.environ["PATH"])
    env = {"PATH": os.pathsep.join(map(str, folders)), "PYTHONPATH": ""}
    for block in blocks(place.read_text("utf-8")):
        if block.language != "bash" or ("../shared/data" in block.text and data is None):
            continue
        script = workspace / ".block.sh"
        script.write_text(f"set -euo pipefail\n{smaller(block.text)}\n")
        finished = command(["bash", script], timeout_s=TIMEOUT_S, cwd=workspace, env=env, code=None)
        assert finished.code == 0, (
            f"{place.name}, block at line {block.line}: {script.read_text()}\n{finished.excerpt()}"
        )


@pytest.fixture(scope="module")
def data() -> Path | None:
    """The folder of real images, or None where there is none."""
    folder = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, command: Command, data: Path | None) -> Path:
    """A copy of the tree in which the commands of the README have run."""
    base = tmp_path_factory.mktemp("docs")
    copy = base / "quell"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=not_source)
    (copy / ".venv").symlink_to(sys.prefix)
    (copy / TOOLS).mkdir()
    (copy / TOOLS / "quell").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quell "$@"\n', "utf-8")
    (copy / TOOLS / "quell").chmod(0o755)
    if data is not None:
        (base / "shared").mkdir()
        (base / "shared" / "data").symlink_to(data)
    run_blocks(README, copy, command, data)
    return copy


def test_the_changelog_names_modules_that_exist() -> None:
    rows = [row.split("|") for row in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if row.startswith("| `")]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    modules = [name for row in rows for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", row[2])]
    places = [ROOT.joinpath(*name.split(".")) for name in modules if name.split(".")[0] in packages]
    assert len(places) > 50
    assert [place for place in places if not (place.is_dir() or place.with_suffix(".py").is_file())] == []


@pytest.mark.xdist_group("docs")
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_the_commands_of_the_readme_run(workspace: Path) -> None:
    assert any(block.language == "bash" for block in blocks(README.read_text("utf-8")))


@pytest.mark.xdist_group("docs")
@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=pytest.mark.slow if place in LONG else ()) for place in GUIDES], ids=name_of
)
def test_the_commands_of_a_guide_run(place: Path, workspace: Path, command: Command, data: Path | None) -> None:
    run_blocks(place, workspace, command, data)


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("place", SHORT, ids=name_of)
def test_the_commands_of_a_short_page_run(place: Path, workspace: Path, command: Command, data: Path | None) -> None:
    run_blocks(place, workspace, command, data)


@pytest.mark.parametrize("place", DOCUMENTS, ids=name_of)
def test_links_files_and_functions_exist(place: Path) -> None:
    assert broken_links(place) == []


@pytest.mark.parametrize("place", DOCUMENTS, ids=name_of)
def test_lines_fit_a_screen(place: Path) -> None:
    assert wide_lines(place) == []


@pytest.mark.parametrize("place", DOCUMENTS, ids=name_of)
def test_every_block_names_its_language_and_code_is_valid(place: Path) -> None:
    for block in blocks(place.read_text("utf-8")):
        assert block.language in LANGUAGES, f"{place.name}:{block.line}: language '{block.language}'"
        if block.language == "yaml":
            content = loader.parse(block.text)
            if "pipeline" in content and place.name != "CONTRIBUTING.md":  # tests/test_contributing.py trains that one
                loader.structure(content, source=f"{place.name}:{block.line}")
        if block.language == "python":
            compile(re.sub(r"^%%writefile .*", "", block.text), f"{place.name}:{block.line}", "exec")


def test_commands_are_shortened_at_their_ends() -> None:
    assert smaller("make test  # ten minutes") == "make -n test  "
    assert smaller("make train").endswith(f"exit(start.main())' {STEPS} ")
    train = smaller("accelerate launch launch/train.py \\\n  --config a.yaml > log")
    assert train.endswith(f"--config a.yaml {STEPS} > log") and "\n" not in train
    assert STEPS not in smaller("python launch/train.py --config a.yaml --dry-run")
    assert smaller("ls runs") == "ls runs"


def test_broken_documents_are_detected(tmp_path: Path) -> None:
    place = tmp_path / "a.md"
    text = "# One\n[x](no.md) `launch/nothing.py` [y](#two) [z](#one) [o](../o.md)\n/home/me/x\n```bash\nls\n```\n"
    place.write_text(text + "`f`, `C.g` and\n`h` in `code.py`\n" + "word " * 30)
    (tmp_path / "code.py").write_text("def f(): ...\nclass C:\n    def g(self): ...\n")
    (tmp_path.parent / "o.md").touch()
    assert [row.split(":")[0] for row in broken_links(place, tmp_path)] == [
        "link to no.md",
        "link to #two",
        "link to ../o.md",
        "file launch/nothing.py",
        "h in code.py",
        "path of a machine /home/me/x",
    ]
    assert [block.text for block in blocks(place.read_text())] == ["ls"]
    assert wide_lines(place) == ["a.md:9"]
