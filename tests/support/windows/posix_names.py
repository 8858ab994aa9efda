"""What the standard library has on Linux and not on Windows, from the declarations that mypy brings along."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace


def posix_only(module: str) -> frozenset[str]:
    """Names of a module of the standard library that Windows lacks."""
    return frozenset(_names(module, "linux")) - frozenset(_names(module, "win32"))


def is_posix_only(module: str) -> bool:
    """Whether a module of the standard library is empty on Windows, which means that it cannot be imported there."""
    there, here = ([n for n in _names(module, platform) if n[0] != "_"] for platform in ("win32", "linux"))
    return bool(here) and not there


def _names(module: str, platform: str) -> Iterator[str]:
    spec = importlib.util.find_spec("mypy")
    assert spec is not None and spec.origin is not None
    stubs = Path(spec.origin).parent / "typeshed" / "stdlib"
    file = stubs / module / "__init__.pyi" if (stubs / module).is_dir() else stubs / f"{module}.pyi"
    if file.is_file():
        yield from _defined(ast.parse(file.read_text(encoding="utf-8")).body, platform)


def _defined(body: list[ast.stmt], platform: str) -> Iterator[str]:
    """The names that statements define, of branches those that are taken on a platform."""
    system = SimpleNamespace(platform=platform, version_info=sys.version_info)
    for statement in body:
        if isinstance(statement, ast.If):
            taken = eval(compile(ast.Expression(statement.test), "", "eval"), {"sys": system})
            yield from _defined(statement.body if taken else statement.orelse, platform)
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
