"""A stage file from disk, with `--set`, as typed stages; the problems of all stages are collected."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from configs import loader
from configs.errors import ConfigError
from configs.schema import Section
from configs.support.paths import resolve
from configs.support.suggestions import did_you_mean
from configs.validation import explain
from slurm.stages.schema import Overrides, Site, Stage, StageFile, Unchecked

SITE_VARIABLE = "QUELL_SITE"
_STAGE_FILE_KEYS = ("name", "site", "resources", "stages")

Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class StageGraph:
    """A stage file, checked as far as possible without reading the configurations it names."""

    name: str
    site: Site
    stages: dict[str, Stage]
    overrides: Overrides
    """Configuration keys changed in every stage that trains."""
    problems: list[str]
    """What is wrong so far; invalid keys have been dropped from `stages`."""


def read(path: str | Path, *, settings: list[str] | None = None, site: str | Path | None = None) -> StageGraph:
    """Read the stages of a YAML file.

    Args:
        path: The stage file; relative paths start at the project's root.
        settings: `a.b=c` changes. Those of `stages.*`, `resources.*`, `site.*` and `name` apply to the stage file,
            all others to the configuration of every stage that trains.
        site: A YAML file with the cluster's settings; None takes the one that $QUELL_SITE names, if it is set.

    Raises:
        ConfigError: The file cannot be read at all. All other problems are in the result.
    """
    path = resolve(path)
    settings = settings or []
    stage_file_settings = [text for text in settings if text.split("=")[0].split(".")[0] in _STAGE_FILE_KEYS]
    data = loader.apply(loader.read(path), stage_file_settings)
    problems: list[str] = []
    file = _validate(StageFile, data, "", problems)
    if file is None:
        raise ConfigError(problems, source=str(path))
    overrides = dict(file.overrides)
    for text in settings:
        if text not in stage_file_settings:
            overrides |= _override(text, problems)
    site_settings = _validate(Site, {**_read_site(site), **file.site}, "site", problems) or Site()
    stages = {
        name: _stage(name, _with_defaults(data, file.resources, site_settings), problems)
        for name, data in file.stages.items()
    }
    return StageGraph(file.name or path.stem, site_settings, stages, overrides, problems)


def _stage(name: str, data: Unchecked, problems: list[str]) -> Stage:
    """A stage without its invalid keys, so that the problems of everything else about it can still be reported."""
    try:
        return Stage.model_validate(data)
    except ValidationError as error:
        problems += explain(error, lambda path: _hint(Stage, path), prefix=f"stages.{name}")
        invalid = {item["loc"][0] for item in error.errors() if item["loc"]}
    try:
        return Stage.model_validate({key: value for key, value in data.items() if key not in invalid})
    except ValidationError:
        try:
            return Stage.model_construct(after=Stage(command=("-c",), after=data.get("after", {})).after)
        except ValidationError:
            return Stage.model_construct()


def _validate(model: type[Model], data: Unchecked, prefix: str, problems: list[str]) -> Model | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems += explain(error, lambda path: _hint(model, path), prefix=prefix)
        return None


def _hint(model: type[BaseModel], path: Sequence[str]) -> str:
    """The nearest known key to the unknown one at the end of the path."""
    for part in path[:-1]:
        field = next((field for name, field in _fields(model).items() if name == part), None)
        # The names in a mapping (`list.NAME`) are no fields: the next part is a key of the same model.
        model = next(iter(_models(field.annotation)), model) if field else model
    return did_you_mean(path[-1], list(_fields(model)))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the key a file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _models(annotation: object) -> list[type[BaseModel]]:
    """The models inside a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _with_defaults(data: Unchecked, resources: Unchecked, site: Site) -> Unchecked:
    """A stage with the resources of the file and of the site where it has none of its own."""
    own = data.get("resources", {})
    if not isinstance(own, dict):
        return data
    from_site = {key: getattr(site, key) for key in ("partition", "account", "qos", "constraint")}
    merged = {**{key: value for key, value in from_site.items() if value}, **resources, **own}
    extra = {**site.extra, **(resources.get("extra") or {}), **(own.get("extra") or {})}
    return {**data, "resources": {**merged, "extra": extra} if extra else merged}


def _read_site(path: str | Path | None) -> Unchecked:
    path = path or os.environ.get(SITE_VARIABLE)
    return loader.read(resolve(path)) if path else {}


def _override(text: str, problems: list[str]) -> Overrides:
    """`a.b=c` as a mapping with one key; empty, with a problem, if it cannot be read."""
    key, equals, value = text.partition("=")
    if not equals:
        problems.append(f"--set {text}: expected section.key=value")
        return {}
    try:
        return {key: loader.parse(value)}
    except ConfigError as error:
        detail = str(error)
        problems.append(f"--set {text}: {'the value is not valid YAML' if 'not readable' in detail else detail}")
        return {}
