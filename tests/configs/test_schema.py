"""Every setting a YAML can have is explained where it is declared."""

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from configs import registry
from configs.schema import RunConfig

METHODS = registry.names("pipelines")


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section and those inside it."""
    yield model
    for field in model.model_fields.values():
        for inner in nested(field.annotation):
            yield from sections(inner)


def nested(annotation: Any) -> list[type[BaseModel]]:
    """The sections in an annotation, looking through Optional, dict and tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in nested(part)]


def unexplained(model: type[BaseModel]) -> list[str]:
    """Sections without a docstring, and fields without one; a field that is a section is explained by it."""
    found = []
    for section in sections(model):
        if not (section.__dict__.get("__doc__") or "").strip():
            found.append(section.__name__)
        for name, field in section.model_fields.items():
            if not field.description and not nested(field.annotation):
                found.append(f"{section.__name__}.{name}")
    return found


def test_every_setting_of_a_run_is_explained() -> None:
    assert unexplained(RunConfig) == []


@pytest.mark.parametrize("method", METHODS)
def test_every_setting_of_a_method_is_explained(method: str) -> None:
    cls: Any = registry.find("pipelines", method)
    assert unexplained(cls.Config) == []


def test_a_setting_without_words_is_seen() -> None:
    class Silent(BaseModel):
        """Says nothing about its field."""

        field: int = 1

    assert unexplained(Silent) == ["Silent.field"]
