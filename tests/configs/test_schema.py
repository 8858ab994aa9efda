"""Every setting is documented where it is declared, and read by some code."""

import ast
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from quell.configs import loader, registry
from quell.configs.errors import ConfigError
from quell.configs.schema import RunConfig
from quell.configs.studies import Study
from quell.configs.support.paths import ROOT
from quell.slurm.stages.schema import Stage, StageFile
from quell.slurm.stages.site import Site

METHODS = registry.names("pipelines")
PACKAGES = ("configs", "launch", "losses", "models", "pipelines", "shards", "slurm")


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section and the sections inside it."""
    yield model
    for field in model.model_fields.values():
        for inner in nested(field.annotation):
            yield from sections(inner)


def nested(annotation: Any) -> list[type[BaseModel]]:
    """The sections in an annotation, looking through Optional, dict and tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in nested(part)]


def undocumented(model: type[BaseModel]) -> list[str]:
    """Sections and fields without a docstring; a field that is a section needs none of its own."""
    missing = []
    for section in sections(model):
        if not (section.__dict__.get("__doc__") or "").strip():
            missing.append(section.__name__)
        for name, field in section.model_fields.items():
            if not field.description and not nested(field.annotation):
                missing.append(f"{section.__name__}.{name}")
    return missing


def names_read(files: Iterable[Path]) -> set[str]:
    """Every attribute that the code reads, and every string that it might pass to getattr."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    return attributes | {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def unread(model: type[BaseModel], read: set[str]) -> list[str]:
    """Fields of a section, and of the sections inside it, that no code reads."""
    return [
        f"{section.__name__}.{name}" for section in sections(model) for name in section.model_fields if name not in read
    ]


@pytest.fixture(scope="module")
def read() -> set[str]:
    """The names that the project's own code reads."""
    return names_read(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def test_every_setting_of_a_run_is_read(read: set[str]) -> None:
    assert unread(RunConfig, read) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_read(method: str, read: set[str]) -> None:
    cls: Any = registry.find("pipelines", method)
    assert unread(cls.Config, read) == []


@pytest.mark.parametrize("model", [StageFile, Site, Stage, Study], ids=lambda model: model.__name__)
def test_every_key_of_a_stage_file_and_of_a_study_is_read(model: type[BaseModel], read: set[str]) -> None:
    assert unread(model, read) == []


def test_a_setting_that_no_code_reads_is_detected(read: set[str]) -> None:
    class Forgotten(BaseModel):
        """Has a field that no code of this project reads."""

        batch_size: int = 1
        batch_sizzle: int = 1

    assert unread(Forgotten, read) == ["Forgotten.batch_sizzle"]


def test_every_setting_of_a_run_is_documented() -> None:
    assert undocumented(RunConfig) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_documented(method: str) -> None:
    cls: Any = registry.find("pipelines", method)
    assert undocumented(cls.Config) == []


def test_an_undocumented_setting_is_detected() -> None:
    class Silent(BaseModel):
        """Has a field without a docstring."""

        field: int = 1

    assert undocumented(Silent) == ["Silent.field"]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("loop.ema_decay=1", "loop.ema_decay"),
        ("pipeline.latent_channels=1000000", "latent_channels"),
        ("pipeline.encoder_features=[]", "encoder_features"),
        ("pipeline.encoder_features=[1000000]", "encoder_features"),
    ],
)
def test_averages_that_never_move_and_networks_that_cannot_be_are_refused(setting: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loader.load(ROOT / "configs" / "cross_baseline.yaml", [setting])
