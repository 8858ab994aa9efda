"""The design, held by a test: who may import whom, and how long, documented and finished a file is.

There is no list of exempt files. (Only this file's own text is not searched for the words that it searches for.)
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT = {
    "configs": set(),
    "losses": {"configs"},
    "models": {"configs"},
    "shards": {"configs"},
    "slurm": {"configs"},
    "pipelines": {"configs", "losses", "models"},
    "launch": {"configs", "losses", "models", "pipelines", "shards"},
}
"""Folder -> the other folders it may import."""

ONLY_IN = {
    "accelerate": ("launch/",),
    "fsspec": ("shards/remote/",),
    "submitit": ("slurm/",),
    "tensorboard": ("launch/tracking.py",),
    "torch.utils.tensorboard": ("launch/tracking.py",),
    "webdataset": ("shards/",),
}
"""Library -> the places that may import it: one place to change when it does."""

WITHOUT_TORCH = ("configs/", "slurm/")
"""Folders that start without torch, on a login node; a function that builds networks may import it when called."""

MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 60

UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|NotImplementedError)\b|type: ignore(?!\[)|noqa(?!: [A-Z]+\d)|pytest\.(skip|xfail)\(\)"
    r"|mark\.(skip|xfail)\b(?!if|\(.*reason=)"
)
"""Work left over, and complaints silenced without saying which."""

SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import statement, at any depth; relative ones are resolved against `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def bad_imports(place: str, text: str) -> list[str]:
    """Imports in the file `place` ('models/unet.py') that the tables do not allow."""
    folder = place.split("/")[0]
    package = ".".join(place.split("/")[:-1])
    found = []
    for line, module in imported(ast.parse(text), package):
        other = module.split(".")[0]
        if other in MAY_IMPORT and other != folder and other not in MAY_IMPORT[folder]:
            found.append(f"{place}:{line} imports {other}/")
        for library, places in ONLY_IN.items():
            if f"{module}.".startswith(f"{library}.") and not place.startswith(places):
                found.append(f"{place}:{line} imports {library}, which is for {', '.join(places)}")
        if other == "torch" and place.startswith(WITHOUT_TORCH) and not inside_function(text, line):
            found.append(f"{place}:{line} imports torch when it starts")
    return found


def inside_function(text: str, line: int) -> bool:
    """Whether a line belongs to a function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return any(node.lineno <= line <= (node.end_lineno or 0) for node in functions)


def too_long(place: str, text: str) -> list[str]:
    """A file, and functions in it, longer than one idea and one screen."""
    lines = text.count("\n")
    found = [f"{place}: {lines} lines, at most {MAX_FILE_LINES}"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                found.append(f"{place}:{node.lineno} {node.name}: {length} lines, at most {MAX_FUNCTION_LINES}")
    return found


def unfinished(place: str, text: str) -> list[str]:
    """Lines with work left over or a complaint silenced without its name."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{place}:{number} {line.strip()}" for number, line in lines if UNFINISHED.search(line)]


def undocumented(place: str, text: str) -> list[str]:
    """The module, and public classes, functions and methods, without a docstring."""
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else [f"{place}: no module docstring"]
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                found.append(f"{place}:{node.lineno} {node.name} has no docstring")
            pending += node.body if isinstance(node, ast.ClassDef) else []
    return found


def hold(check: Callable[[str, str], list[str]], files: list[Path]) -> None:
    """Fail with everything a check says about the files."""
    assert files
    rows = [row for path in files for row in check(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))]
    assert not rows, "\n".join(rows)


def test_every_folder_is_held() -> None:
    """A new package is added to the table before it imports anything."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


def test_imports_follow_the_table() -> None:
    hold(bad_imports, SOURCES)


def test_files_hold_one_idea_and_functions_fit_a_screen() -> None:
    hold(too_long, SOURCES + TESTS)


def test_nothing_is_left_unfinished() -> None:
    here = Path(__file__)
    hold(unfinished, SOURCES + [path for path in TESTS if path != here])


def test_public_names_are_documented() -> None:
    hold(undocumented, SOURCES)


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        ("models/unet.py", "from losses.l1 import L1", "models/unet.py:1 imports losses/"),
        ("losses/l1.py", "def f():\n    import shards.order", "losses/l1.py:2 imports shards/"),
        ("slurm/submit.py", "from launch import run", "slurm/submit.py:1 imports launch/"),
        ("pipelines/gan.py", "import accelerate.utils", "pipelines/gan.py:1 imports accelerate"),
        ("configs/schema.py", "from torch import nn", "configs/schema.py:1 imports torch"),
        ("slurm/plan.py", "if True:\n    import torch.nn", "slurm/plan.py:2 imports torch"),
        ("launch/run.py", "from torch.utils.tensorboard import SummaryWriter", "launch/run.py:1 imports torch.utils"),
        ("launch/run.py", "from torch.utils import tensorboard", "launch/run.py:1 imports torch.utils"),
    ],
)
def test_a_wrong_import_is_seen(place: str, text: str, said: str) -> None:
    assert [row.startswith(said) for row in bad_imports(place, text)] == [True]


def test_a_right_import_is_not_complained_about() -> None:
    text = "import torch\nfrom models import _blocks\nfrom . import _blocks\nfrom .unet import Net\nimport configs"
    assert bad_imports("models/unet.py", text) == []
    assert bad_imports("launch/tracking.py", "from torch.utils.tensorboard import SummaryWriter") == []
    assert bad_imports("slurm/inputs.py", "def f():\n    import torch") == []


def test_long_and_unfinished_and_undocumented_code_is_seen() -> None:
    assert len(too_long("a/b.py", "def f():\n" + "    x = 1\n" * 300)) == 2
    assert len(unfinished("a/b.py", "x = 1  # TODO\ny = 2  # type: ignore\nz = 3  # type: ignore[misc]\n")) == 2
    text = '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...\n    def _g(self): ...\n'
    assert undocumented("a/b.py", text) == ["a/b.py:4 f has no docstring"]
