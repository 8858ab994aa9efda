"""Rules of the design: which folder may import which, and how long, documented and finished a file has to be.

Each rule holds for every file, without a list of exceptions. (Only this file is not searched for unfinished work,
because it contains the words that are searched for.)
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quell.configs import registry
from quell.configs.support.paths import ROOT

MAY_IMPORT = {
    "configs": set(),
    "losses": {"configs"},
    "models": {"configs"},
    "shards": {"configs", "losses"},
    "slurm": {"configs"},
    "pipelines": {"configs", "losses", "models"},
    "launch": {"configs", "losses", "models", "pipelines", "shards"},
    "quell": {"configs", "launch", "losses", "models", "pipelines", "shards", "slurm"},
}
"""Top-level folder -> the other top-level folders it may import."""

ONLY_IN = {
    "accelerate": ("launch/",),
    "clearml": ("launch/runs/trackers/",),
    "comet_ml": ("launch/runs/trackers/",),
    "fsspec": ("shards/remote/",),
    "mlflow": ("launch/runs/trackers/",),
    "submitit": ("slurm/",),
    "tensorboard": ("launch/runs/board.py",),
    "torch.utils.tensorboard": ("launch/runs/board.py",),
    "wandb": ("launch/runs/trackers/",),
    "webdataset": ("shards/",),
}
"""Library -> the only places that may import it, so that a change of the library affects few files."""

WITHOUT_TORCH = ("configs/", "slurm/")
"""Folders that start without torch, on login nodes; functions that build networks may import it when called."""

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

MAX_FILES, MAX_CATALOGUE = 15, 20
"""Python files on one level of a folder, and on one where each file is a name that users can write."""

CATALOGUES = ("losses", "losses/metrics", "models", "pipelines", "shards/sources")
"""Folders whose file names are accepted in YAML files and on the command line (configs/registry.py)."""

UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX)\b|type: ignore(?!\[)|noqa(?!: [A-Z]+\d)|pytest\.(skip|xfail)\(\)"
    r"|mark\.(skip|xfail)\b(?!if|\(.*reason=)"
)
"""Unfinished work, and warnings that are silenced without naming them."""

SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import statement, at any depth; relative ones are resolved against `package`.

    Modules of this project are named from its root, as their files are: `configs.loader` for `quell.configs.loader`.
    """
    for line, module in _import_statements(tree, package):
        rest = module.removeprefix("quell.")
        yield line, rest if rest.split(".")[0] in MAY_IMPORT else module


def _import_statements(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def forbidden_imports(place: str, text: str) -> list[str]:
    """Imports of the file `place` ('models/unet.py') that the tables do not allow."""
    folder = place.split("/")[0]
    package = ".".join(place.split("/")[:-1])
    problems = []
    for line, module in imported(ast.parse(text), package):
        top_level = module.split(".")[0]
        if (
            module != "quell"
            and top_level in MAY_IMPORT
            and top_level != folder
            and top_level not in MAY_IMPORT[folder]
        ):
            problems.append(f"{place}:{line} imports {top_level}/")
        for library, places in ONLY_IN.items():
            if f"{module}.".startswith(f"{library}.") and not place.startswith(places):
                problems.append(f"{place}:{line} imports {library}, which is for {', '.join(places)}")
        if top_level == "torch" and place.startswith(WITHOUT_TORCH) and not inside_function(text, line):
            problems.append(f"{place}:{line} imports torch when it starts")
    return problems


def private_imports(place: str, text: str) -> list[str]:
    """Private modules and names (`_x`) that are imported from another folder."""
    package = ".".join(place.split("/")[:-1])
    problems = []
    for line, module in imported(ast.parse(text), package):
        parents, _, name = module.rpartition(".")
        private = any(part.startswith("_") and not part.startswith("__") for part in module.split("."))
        same_folder = parents == package or parents.rpartition(".")[0] == package
        if module.split(".")[0] in MAY_IMPORT and private and not same_folder:
            problems.append(f"{place}:{line} imports the private {name} of {parents}")
    return problems


def inside_function(text: str, line: int) -> bool:
    """Whether a line belongs to a function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return any(node.lineno <= line <= (node.end_lineno or 0) for node in functions)


def too_long(place: str, text: str) -> list[str]:
    """The file if it is too long, and the functions in it that are."""
    lines = text.count("\n")
    problems = [f"{place}: {lines} lines, at most {MAX_FILE_LINES}"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                problems.append(f"{place}:{node.lineno} {node.name}: {length} lines, at most {MAX_FUNCTION_LINES}")
    return problems


def unfinished(place: str, text: str) -> list[str]:
    """Lines with unfinished work, or with a warning that is silenced without naming it."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{place}:{number} {line.strip()}" for number, line in lines if UNFINISHED.search(line)]


def undocumented(place: str, text: str) -> list[str]:
    """The module, and its public classes, functions and methods, where they have no docstring."""
    tree = ast.parse(text)
    problems = [] if ast.get_docstring(tree) else [f"{place}: no module docstring"]
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and not is_overload(node):
                problems.append(f"{place}:{node.lineno} {node.name} has no docstring")
            pending += node.body if isinstance(node, ast.ClassDef) else []
    return problems


def is_overload(node: ast.stmt) -> bool:
    """Whether a function is one of the signatures of the function that follows them, which has the docstring."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in decorators)


def import_graph(files: dict[str, str]) -> dict[str, set[str]]:
    """Module -> the modules of this project that it imports, including those it imports for type checking only."""
    known = {place.removesuffix(".py").replace("/", "."): text for place, text in files.items()}
    graph: dict[str, set[str]] = {}
    for name, text in known.items():
        package = name.removesuffix(".__init__") if name.endswith("__init__") else name.rpartition(".")[0]
        targets = {module for _, module in imported(ast.parse(text), package)}
        graph[name] = {t if t in known else t.rpartition(".")[0] for t in targets} & known.keys() - {name}
    return graph


def room(module: str) -> str:
    """The room of a module: its folder, or the module itself if it is directly in a top-level folder."""
    folder = module.rpartition(".")[0]
    return folder if "." in folder else module


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The import graph of rooms that follows from one of modules."""
    room_graph: dict[str, set[str]] = {}
    for module, targets in graph.items():
        room_graph.setdefault(room(module), set()).update({room(target) for target in targets} - {room(module)})
    return room_graph


def import_cycles(graph: dict[str, set[str]]) -> list[str]:
    """What is left of a graph after repeatedly removing everything that imports nothing or is not imported."""
    left = {name: set(targets) for name, targets in graph.items()}
    while True:
        used = set().union(*left.values()) if left else set()
        ends = {name for name, targets in left.items() if not targets or name not in used}
        if not ends:
            return sorted(f"{name} -> {', '.join(sorted(targets))}" for name, targets in left.items())
        left = {name: targets - ends for name, targets in left.items() if name not in ends}


def full_folders(places: list[str]) -> list[str]:
    """Folders with too many Python files on one level; `__init__.py` and `conftest.py` do not count."""
    levels: dict[str, int] = {}
    for place in places:
        folder, _, name = place.rpartition("/")
        levels[folder] = levels.get(folder, 0) + (name not in ("__init__.py", "conftest.py"))
    limits = {folder: MAX_CATALOGUE if folder in CATALOGUES else MAX_FILES for folder in levels}
    return [f"{folder}: {n} files, at most {limits[folder]}" for folder, n in levels.items() if n > limits[folder]]


def assert_no_problems(check: Callable[[str, str], list[str]], files: list[Path]) -> None:
    """Fail with everything that a check finds in the files."""
    assert files
    problems = [
        problem for path in files for problem in check(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """The import graph of the project's own code."""
    return import_graph({path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in SOURCES})


def test_every_package_is_in_the_table() -> None:
    """A new package has to be added to the table before it imports anything."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)


def test_imports_follow_the_table() -> None:
    assert_no_problems(forbidden_imports, SOURCES)


def test_nothing_private_is_imported_across_folders() -> None:
    assert_no_problems(private_imports, SOURCES)


def test_no_modules_import_each_other(graph: dict[str, set[str]]) -> None:
    assert import_cycles(graph) == []


def test_no_rooms_import_each_other(graph: dict[str, set[str]]) -> None:
    assert import_cycles(rooms(graph)) == []


def test_files_and_functions_are_short() -> None:
    assert_no_problems(too_long, SOURCES + TESTS)


def test_folders_have_few_files() -> None:
    assert full_folders([path.relative_to(ROOT).as_posix() for path in SOURCES + TESTS]) == []


@pytest.mark.parametrize("folder", CATALOGUES)
def test_every_file_of_a_catalogue_is_a_name_that_users_can_write(folder: str) -> None:
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__", "base"}
    assert files == set(registry.names(folder))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows which links belong to the project")
def test_links_lead_to_files_of_the_project() -> None:
    """A link to a folder of one machine dangles in every clone, and nothing can be written where it stands."""
    tracked = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, check=True, capture_output=True, text=True)
    links = [ROOT / line.split("\t")[1] for line in tracked.stdout.splitlines() if line.startswith("120000 ")]
    assert len(links) >= len(MAY_IMPORT) - 1
    assert [link.name for link in links if not link.resolve().is_relative_to(ROOT)] == []


def test_nothing_is_left_unfinished() -> None:
    assert_no_problems(unfinished, SOURCES + [path for path in TESTS if path != Path(__file__)])


def test_public_names_are_documented() -> None:
    assert_no_problems(undocumented, SOURCES)


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        ("models/unet.py", "from quell.losses.l1 import L1", "models/unet.py:1 imports losses/"),
        ("losses/l1.py", "def f():\n    import quell.shards.order", "losses/l1.py:2 imports shards/"),
        ("slurm/submit.py", "from quell.launch import run", "slurm/submit.py:1 imports launch/"),
        ("pipelines/gan.py", "import accelerate.utils", "pipelines/gan.py:1 imports accelerate"),
        ("configs/schema.py", "from torch import nn", "configs/schema.py:1 imports torch"),
        ("slurm/stages/plan.py", "if True:\n    import torch.nn", "slurm/stages/plan.py:2 imports torch"),
        ("launch/a.py", "from torch.utils.tensorboard import SummaryWriter", "launch/a.py:1 imports torch.utils"),
        ("launch/a.py", "from torch.utils import tensorboard", "launch/a.py:1 imports torch.utils"),
    ],
)
def test_forbidden_imports_are_detected(place: str, text: str, message: str) -> None:
    assert [problem.startswith(message) for problem in forbidden_imports(place, text)] == [True]


def test_allowed_imports_are_not_reported() -> None:
    text = "import torch\nfrom models import _blocks\nfrom . import _blocks\nfrom .unet import Net\nimport configs"
    assert forbidden_imports("models/unet.py", text) == []
    assert private_imports("models/unet.py", text) == []
    assert forbidden_imports("launch/runs/board.py", "from torch.utils.tensorboard import SummaryWriter") == []
    assert forbidden_imports("slurm/stages/preflight.py", "def f():\n    import torch") == []


def test_private_imports_across_folders_are_detected() -> None:
    imports = ("quell.models import _blocks", "quell.models.unet import _Block", "quell.models._blocks import Block")
    text = "".join(f"from {line}\n" for line in imports)
    assert len(private_imports("pipelines/r2r.py", text)) == 3
    assert private_imports("models/dncnn.py", text) == []


def test_import_cycles_are_detected() -> None:
    files = {
        "a/x/p.py": "from a.y import q",
        "a/y/q.py": "from a.x import r",
        "a/x/r.py": "import os",
        "a/x/__init__.py": "",
    }
    graph = import_graph(files)
    assert import_cycles(graph) == []
    assert import_cycles(rooms(graph)) == ["a.x -> a.y", "a.y -> a.x"]
    assert len(import_cycles(import_graph({**files, "a/x/r.py": "from a.x.p import f"}))) == 3


def test_full_folders_are_detected() -> None:
    files = [f"losses/l{i}.py" for i in range(16)]
    assert full_folders(files) == []
    assert full_folders([f"launch/{file}" for file in files]) == ["launch/losses: 16 files, at most 15"]


def test_long_unfinished_and_undocumented_code_is_detected() -> None:
    assert len(too_long("a/b.py", "def f():\n" + "    x = 1\n" * 400)) == 2
    assert len(unfinished("a/b.py", "x = 1  # TODO\ny = 2  # type: ignore\nz = 3  # type: ignore[misc]\n")) == 2
    text = '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...\n    def _g(self): ...\n'
    assert undocumented("a/b.py", text) == ["a/b.py:4 f has no docstring"]
