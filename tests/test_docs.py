"""What README.md and docs/ say is true: their commands run, their links lead somewhere, their YAML is valid.

Every fenced block has a language. Blocks tagged `bash` are run, in order, in a copy of the tree: README's first, as the
others may build on it. Long commands are run small (see SMALLER); what cannot be run here is tagged `text`.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from configs import loader
from configs.support.paths import ROOT

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs").glob("*.md"))

LANGUAGES = {"bash", "json", "python", "text", "yaml"}
TIMEOUT_S = 1000

STEPS = "loop.max_steps=2 data.crop=32 data.limit=8 data.batch_size=4 evaluation.limit=2"
FEWER = "--train 8 --val 2 --test 2 --size 64"
SMALLER = (
    (
        r"^make train$",
        "make -n train && python -c 'from launch import quickstart as start; "
        f'start.PHANTOM += "{FEWER}".split(); exit(start.main())\'',
        STEPS,
    ),
    (r"^make\b", r"make -n", ""),
    (r"\bpip install\b", r"pip install --dry-run --quiet --no-deps --no-index --no-build-isolation", ""),
    (r"\blaunch/(train|experiments|diagnose)\.py\b(?!.*--(dry-run|summary|help|run )\b)", r"\g<0>", STEPS),
    (r"\blaunch/evaluate\.py\b", r"\g<0>", "--limit 4"),
    (r"\bshards\.build phantom\b", r"\g<0>", FEWER),
    (r"\bslurm/submit\.py\b(?!.*--dry-run)", r"\g<0>", "--dry-run"),
)
"""How a command is run small: (pattern, what stands for it, what is added at its end); the first that matches."""

NOT_IN_THE_COPY = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".*_cache", "*.egg-info")


class Block(NamedTuple):
    """One fenced block: the line it opens at, its language, its text."""

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
    """The same commands at a size for a test; a command is a line, with those it continues on."""
    lines = []
    for line in script.replace("\\\n", " ").splitlines():
        command, _comment, _ = line.partition(" #")
        for pattern, instead, added in SMALLER:
            if re.search(pattern, command.strip()):
                command = re.sub(pattern, instead, command.strip())
                command = re.sub(r"\s*($|[>|])", lambda end, added=added: f" {added} {end[1]}", command, count=1)
                break
        lines.append(command)
    return "\n".join(lines)


def prose(text: str) -> str:
    """The text without its fenced blocks."""
    return re.sub(r"^\s*(`{3,}).*?^\s*\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a text's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(place: Path, root: Path = ROOT) -> list[str]:
    """Links and file names in a document that lead nowhere in this repository."""
    text = place.read_text("utf-8")
    found = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(text)):
        path, _, anchor = target.partition("#")
        if re.match(r"https?:|mailto:", target):
            continue
        file = (place.parent / path).resolve() if path else place
        if not file.exists() or (file != root and root not in file.parents):
            found.append(f"link to {target}")
        elif anchor and anchor not in anchors(file.read_text("utf-8")):
            found.append(f"link to {target}: no such heading")
    folders = "|".join(path.parent.name for path in ROOT.glob("*/__init__.py")) + "|tests|docs|benchmarks"
    for name in re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", prose(text)):
        if not (root / name).exists():
            found.append(f"file {name}")
    machine = re.findall(r"(?<![\w.:/])/(?:home|root|work|opt|Users)/\S*", text)
    return found + [f"path of a machine {path}" for path in machine]


def run_blocks(place: Path, workspace: Path, command: Any, data: Path | None) -> None:
    """Run every bash block of a document; those that need the real data only where it is."""
    env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    for block in blocks(place.read_text("utf-8")):
        if block.language != "bash" or ("../shared/data" in block.text and data is None):
            continue
        script = workspace / ".block.sh"
        script.write_text(f"set -euo pipefail\n{smaller(block.text)}\n")
        ended = command(["bash", script], timeout_s=TIMEOUT_S, cwd=workspace, env=env, code=None)
        assert ended.code == 0, f"{place.name}, block at line {block.line}: {script.read_text()}\n{ended.tail()}"


@pytest.fixture(scope="module")
def data() -> Path | None:
    """The folder of real images, or None."""
    folder = Path(os.environ.get("QUELL_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, command: Any, data: Path | None) -> Path:
    """A copy of the tree in which README's commands have run."""
    base = tmp_path_factory.mktemp("docs")
    copy = base / "quell"
    shutil.copytree(ROOT, copy, ignore=NOT_IN_THE_COPY)
    (copy / ".venv").symlink_to(sys.prefix)
    if data is not None:
        (base / "shared").mkdir()
        (base / "shared" / "data").symlink_to(data)
    run_blocks(README, copy, command, data)
    return copy


@pytest.mark.xdist_group("docs")
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_the_commands_of_the_readme_run(workspace: Path) -> None:
    assert any(block.language == "bash" for block in blocks(README.read_text("utf-8")))


@pytest.mark.xdist_group("docs")
@pytest.mark.timeout(TIMEOUT_S + 60)
@pytest.mark.parametrize("place", GUIDES, ids=lambda place: place.stem)
def test_the_commands_of_a_guide_run(place: Path, workspace: Path, command: Any, data: Path | None) -> None:
    run_blocks(place, workspace, command, data)


@pytest.mark.parametrize("place", [README, *GUIDES], ids=lambda place: place.stem)
def test_links_and_file_names_lead_somewhere(place: Path) -> None:
    assert broken_links(place) == []


@pytest.mark.parametrize("place", [README, *GUIDES], ids=lambda place: place.stem)
def test_every_block_says_its_language_and_yaml_is_valid(place: Path) -> None:
    for block in blocks(place.read_text("utf-8")):
        assert block.language in LANGUAGES, f"{place.name}:{block.line}: language '{block.language}'"
        if block.language == "yaml":
            content = loader.parse(block.text)
            if "pipeline" in content:
                loader.structure(content, source=f"{place.name}:{block.line}")
        if block.language == "python":
            compile(block.text, f"{place.name}:{block.line}", "exec")


def test_commands_are_made_smaller_at_their_ends() -> None:
    assert smaller("make test  # ten minutes") == "make -n test  "
    assert smaller("make train").endswith(f"exit(start.main())' {STEPS} ")
    train = smaller("accelerate launch launch/train.py \\\n  --config a.yaml > log")
    assert train.endswith(f"--config a.yaml {STEPS} > log") and "\n" not in train
    assert STEPS not in smaller("python launch/train.py --config a.yaml --dry-run")
    assert smaller("ls runs") == "ls runs"


def test_a_broken_document_is_seen(tmp_path: Path) -> None:
    place = tmp_path / "a.md"
    text = "# One\n[x](no.md) `launch/nothing.py` [y](#two) [z](#one) [o](../o.md)\n/home/me/x\n```bash\nls\n```\n"
    place.write_text(text)
    (tmp_path.parent / "o.md").touch()
    assert [row.split(":")[0] for row in broken_links(place, tmp_path)] == [
        "link to no.md",
        "link to #two",
        "link to ../o.md",
        "file launch/nothing.py",
        "path of a machine /home/me/x",
    ]
    assert [block.text for block in blocks(place.read_text())] == ["ls"]
