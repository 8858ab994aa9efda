"""A stage file from disk, with `--set`, as typed stages; the problems of all stages are collected."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from quell.configs import loader
from quell.configs.errors import ConfigError
from quell.configs.schema import Section
from quell.configs.support.paths import from_here
from quell.configs.support.suggestions import did_you_mean
from quell.configs.validation import explain
from quell.slurm.stages import site_files
from quell.slurm.stages.command_line import CommandLine
from quell.slurm.stages.job_options import JobOptions
from quell.slurm.stages.schema import Overrides, Stage, StageFile, Unchecked
from quell.slurm.stages.site import Site

Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class StageGraph:
    """A stage file, checked as far as possible without reading the configurations it names."""

    name: str
    site: Site
    stages: dict[str, Stage]
    overrides: Overrides
    """Configuration keys that the file changes in every stage that trains."""
    settings: Overrides
    """Those that the command line changes: they win over all others."""
    problems: list[str]
    """What is wrong so far; invalid keys have been dropped from `stages`."""
    notes: list[str]
    """Settings of the command line that have no effect."""


def read(path: str | Path, *, settings: list[str] | None = None, site: str | Path | None = None) -> StageGraph:
    """Read the stages of a YAML file.

    Args:
        path: The stage file; a relative path starts at the current folder, or else at the project's root.
        settings: `a.b=c` changes. Those of `stages.*`, `resources.*`, `site.*` and `name` apply to the stage file,
            all others to the configuration of every stage that trains.
        site: A site in configs/sites/, or the path of a YAML file; None takes what $QUELL_SITE names, if it is set.

    Raises:
        ConfigError: The file cannot be read at all. All other problems are in the result.
    """
    path = from_here(path)
    given = CommandLine.split(settings or [])
    data = given.applied(loader.read(path))
    problems: list[str] = list(given.problems)
    file = _validate(StageFile, data, "", problems)
    if file is None:
        raise ConfigError(problems, source=str(path))
    site_settings = _site(site, file.site, problems)
    stages = {
        name: _stage(name, _with_defaults(name, data, file.resources, site_settings, given), problems)
        for name, data in file.stages.items()
    }
    for name, stage in stages.items():
        asked = stage.resources
        if problem := site_settings.gpu_problem(gpus=asked.gpus_per_node, tasks=asked.tasks):
            problems.append(f"stages.{name}.resources: {problem}")
    problems += given.conflicts(stages)
    return StageGraph(
        file.name or path.stem, site_settings, stages, dict(file.overrides), given.configuration, problems,
        given.without_effect(stages),
    )  # fmt: skip


def _site(site: str | Path | None, of_stage_file: Unchecked, problems: list[str]) -> Site:
    """The site's settings, of its own file and of the stage file; the problems name the file they are in."""
    file = site_files.find(site)
    of_file = site_files.read(file)
    before = len(problems)
    _validate(Site, of_file, f"{file}", problems)
    _validate(Site, of_stage_file, "site", problems)
    if len(problems) > before:
        return Site()
    return _validate(Site, site_files.merged(of_file, of_stage_file), "site", problems) or Site()


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
        field = _fields(model).get(part)
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


def _with_defaults(name: str, data: Unchecked, resources: Unchecked, site: Site, given: CommandLine) -> Unchecked:
    """A stage with the resources of the file and of the site where it has none of its own; the command line wins."""
    own = data.get("resources", {})
    if not isinstance(own, dict):
        return data
    of_site = site.model_dump(include=set(JobOptions.model_fields), exclude_defaults=True)
    layers = [of_site, resources, own, given.resources, given.resources_of(name)]
    merged = {key: value for layer in layers for key, value in layer.items()}
    with contextlib.suppress(TypeError):  # of the wrong kind: Resources reports it
        extra = {key: value for layer in layers for key, value in dict(layer.get("extra") or {}).items()}
        merged |= {"extra": extra} if extra else {}
        srun = [option for layer in layers for option in _list(layer.get("srun"))]
        merged |= {"srun": srun} if srun else {}
    return {**data, "resources": merged}


def _list(value: object) -> list[object]:
    """The entries of a list in a YAML; TypeError for anything else but null."""
    if not isinstance(value, list | tuple | None):
        raise TypeError
    return list(value or ())
