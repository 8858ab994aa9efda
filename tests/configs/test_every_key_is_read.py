"""Every key of a configuration is read by the code that it is meant for: one that nothing reads does nothing."""

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from pydantic import create_model

from quell.configs.schema import LoopConfig, PipelineConfig, RunConfig, Section

READERS = ("launch", "shards", "pipelines", "slurm", "configs/loader.py", "configs/studies.py")
"""Where keys are read; the schema itself only checks them."""

ONE_VALUE = {"R2R.Config ": {"loss"}}
"""Keys that explain why they have one legal value, and are read by nothing else."""


def sections(model: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Every section below a model, the model included, with its dotted path."""
    yield path, model
    for name, field in model.model_fields.items():
        inner = [field.annotation, *get_args(field.annotation)]
        inner += [argument for each in inner for argument in get_args(each)]
        for kind in inner:
            if not isinstance(kind, type) or not issubclass(kind, Section) or kind is PipelineConfig:
                continue
            if not kind.model_fields.keys() <= model.model_fields.keys():  # else it changes keys of the section above
                yield from sections(kind, f"{path}.{name}".lstrip("."))


def pipeline_configs(root: Path) -> Iterator[type[PipelineConfig]]:
    """The section of every method, with the sections of which it is made."""
    for file in sorted((root / "pipelines").glob("*.py")):
        for kind in vars(importlib.import_module(f"quell.pipelines.{file.stem}")).values():
            config = getattr(kind, "Config", None)
            if isinstance(config, type) and issubclass(config, PipelineConfig) and config is not PipelineConfig:
                yield config


def last_name(node: ast.AST) -> str:
    """`c` of an expression `a.b.c`, of `c`, and of `c.model_copy(...)`; empty for others."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "model_copy":
        return last_name(node.func.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


class Module(NamedTuple):
    """The parts of a module that say what it reads."""

    annotated: list[tuple[str, set[str]]]
    """Arguments and variables, with the words of their types."""
    assigned: list[tuple[str, str]]
    """Last names of targets and of what is assigned to them."""
    read: list[tuple[str, str]]
    """Last names of objects, and the attributes that are read of them."""


@functools.cache
def module(file: Path) -> Module:
    """Parse a module."""
    found = Module([], [], [])
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    words = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for node in nodes:
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            own = node.arg if isinstance(node, ast.arg) else last_name(node.target)
            found.annotated.append((own, set(re.findall(r"\w+", ast.unparse(node.annotation)))))
        elif isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
            if isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=False))
            found.assigned.extend((last_name(target), last_name(value)) for target, value in pairs)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.read.append((last_name(node.value), node.attr))
        elif isinstance(node, ast.Call) and last_name(node.func) == "getattr":  # of a name that the module mentions
            found.read.extend((last_name(node.args[0]), word) for word in words)
    return found


def names_of(code: Module, section: str, kind: type[Section]) -> set[str]:
    """What a module calls a section: its key, arguments with its type, and what is assigned from those."""
    names = {section.rpartition(".")[2]} - {""}
    kinds = {each.__qualname__.rpartition(".")[2] for each in kind.__mro__ if issubclass(each, Section)} - {"Section"}
    names |= {own for own, words in code.annotated if kinds & words}
    for _ in range(2):  # twice, for what is assigned from what was assigned
        names |= {target for target, value in code.assigned if value in names}
    return names - {""}


def unread(root: Path, section: str, kind: type[Section]) -> set[str]:
    """The keys of a section that no module reads as an attribute of something that it calls the section."""
    left = set(kind.model_fields) - {"name"}  # the name chooses the class, or the branch, that reads the others
    for reader in READERS:
        files = [root / reader] if reader.endswith(".py") else sorted((root / reader).rglob("*.py"))
        for file in files:
            code = module(file)
            names = names_of(code, section, kind)
            left -= {attribute for owner, attribute in code.read if owner in names}
            if not left:
                return left
    return left


def test_every_key_of_a_run_is_read(root: Path) -> None:
    found = {(path, kind.__name__): unread(root, path, kind) for path, kind in sections(RunConfig)}
    assert len(found) > 10
    assert {path: keys for (path, _), keys in found.items() if keys} == {}


def test_every_key_of_a_method_is_read(root: Path) -> None:
    found = {
        f"{config.__qualname__} {path}": unread(root, path or "config", kind)
        for config in set(pipeline_configs(root))
        for path, kind in sections(config)
    }
    assert len(found) > 10
    assert {path: keys for path, keys in found.items() if keys} == ONE_VALUE


@pytest.mark.parametrize("key", ["unheard_of", "crop"])
def test_a_key_that_nothing_reads_is_found(key: str, root: Path) -> None:
    """Also where another section has a key of this name, which is read."""
    grown = create_model("LoopConfig", __base__=LoopConfig, **{key: (int, 0)})  # type: ignore[call-overload]
    assert unread(root, "loop", grown) == {key}
