"""A stage file from disk, with `--set`, as typed stages; every problem of every stage is collected."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from configs import loader
from configs.errors import ConfigError
from configs.registry import SettingsError
from configs.support.paths import resolve
from configs.support.suggestions import did_you_mean
from slurm.stages.schema import Section, Site, Stage, StageFile

SITE_VARIABLE = "QUELL_SITE"
_OWN_KEYS = ("name", "site", "resources", "stages")

Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class Stages:
    """A stage file, checked as far as it can be without looking at the configurations it names."""

    name: str
    site: Site
    stages: dict[str, Stage]
    overrides: dict[str, Any]
    problems: list[str]
    """What is wrong so far; stages are here without the keys that are wrong."""


def read(path: str | Path, *, settings: list[str] | None = None, site: str | Path | None = None) -> Stages:
    """The stages of a YAML file.

    `settings` are `a.b=c` changes: under `stages.`, `resources.`, `site.` and `name` to the stage file itself, anything
    else to the configuration of every stage that trains. `site` names a YAML file with the cluster's settings; without
    it $QUELL_SITE does. Raises ConfigError only when the file is not readable at all.
    """
    path = resolve(path)
    data = loader.read(path)
    own = [text for text in settings or [] if text.split("=")[0].split(".")[0] in _OWN_KEYS]
    data = loader.apply(data, own)
    problems: list[str] = []
    file = _validate(StageFile, data, "", problems)
    if file is None:
        raise ConfigError(problems, source=str(path))
    common = dict(file.overrides)
    for text in settings or []:
        if text not in own:
            common |= _setting(text, problems)
    merged_site = {**_site_file(site), **file.site}
    known_site = _validate(Site, merged_site, "site", problems) or Site()
    stages = {}
    for name, raw in file.stages.items():
        stages[name] = _stage(name, _with_defaults(raw, file.resources, known_site), problems)
    return Stages(file.name or path.stem, known_site, stages, common, problems)


def explain(error: ValidationError, model: type[Section], prefix: str) -> list[str]:
    """One sentence per problem with its dotted path; an unknown key comes with the nearest known one."""
    lines = []
    for item in error.errors():
        parts = [str(part) for part in item["loc"] if part != "[key]"]
        where = ".".join([prefix, *parts]).strip(".")
        inner = item.get("ctx", {}).get("error")
        if isinstance(inner, SettingsError):
            lines += [f"{where}: {text}" for text in inner.problems]
        elif item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; {did_you_mean(parts[-1], _keys(model, parts[:-1]))}")
        elif item["type"] == "missing":
            lines.append(f"{where}: missing")
        else:
            lines.append(f"{where}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r:.80})")
    return lines


def _stage(name: str, raw: dict[str, Any], problems: list[str]) -> Stage:
    """A stage; one with mistakes is read without them, so that what the rest of it gets wrong is reported as well."""
    try:
        return Stage.model_validate(raw)
    except ValidationError as error:
        problems += explain(error, Stage, f"stages.{name}")
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
    try:
        return Stage.model_validate({key: value for key, value in raw.items() if key not in wrong})
    except ValidationError:
        try:
            return Stage.model_construct(after=Stage(command=("-c",), after=raw.get("after", {})).after)
        except ValidationError:
            return Stage.model_construct()


def _validate(model: type[Model], data: Any, prefix: str, problems: list[str]) -> Model | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems += explain(error, model, prefix)
        return None


def _keys(model: Any, parts: list[str]) -> list[str]:
    """The keys known at a place; a mapping of named things (`list.NAME`) is looked through."""
    for part in parts:
        for name, field in getattr(model, "model_fields", {}).items():
            if part in (name, field.alias):
                model = next((kind for kind in _models(field.annotation)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _with_defaults(raw: dict[str, Any], resources: dict[str, Any], site: Site) -> dict[str, Any]:
    """A stage with the file's and the site's resources where it says nothing itself."""
    own = raw.get("resources", {})
    if not isinstance(own, dict):
        return raw
    where = {key: getattr(site, key) for key in ("partition", "account", "qos", "constraint") if getattr(site, key)}
    merged = {**where, **resources, **own}
    extra = {**site.extra, **(resources.get("extra") or {}), **(own.get("extra") or {})}
    return {**raw, "resources": {**merged, "extra": extra} if extra else merged}


def _site_file(path: str | Path | None) -> dict[str, Any]:
    path = path or os.environ.get(SITE_VARIABLE)
    return loader.read(resolve(path)) if path else {}


def _setting(text: str, problems: list[str]) -> dict[str, Any]:
    """`a.b=c` as one override, or a problem."""
    key, equals, value = text.partition("=")
    if not equals:
        problems.append(f"--set {text}: a setting looks like section.key=value")
        return {}
    try:
        return {key: loader.parse(value)}
    except yaml.YAMLError:
        problems.append(f"--set {text}: the value is not YAML")
        return {}
