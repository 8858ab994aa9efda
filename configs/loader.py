"""From a YAML file and `a.b=c` overrides to a RunConfig, or to one report of every problem; and back to YAML."""

import copy
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from quell.configs import documents
from quell.configs.errors import ConfigError
from quell.configs.registry import find
from quell.configs.schema import RunConfig
from quell.configs.support.logs import get_logger
from quell.configs.support.mappings import Settings
from quell.configs.support.paths import ROOT, resolve
from quell.configs.support.suggestions import did_you_mean
from quell.configs.validation import explain

OLD_NAMES = {"config": "contrast2contrast"}
"""Name of an older JSON -> of the YAML with its settings, where they differ."""

MAX_KEY_PARTS = 20
"""Longest dotted key of an override."""

log = get_logger(__name__)


def load(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Load the run that a file and overrides describe.

    Args:
        path: A YAML file, or a JSON file of the older program (configs/legacy).
        overrides: `a.b=c` changes to single keys; the value is YAML.

    Returns:
        The complete, frozen configuration; without a `name` of its own it is named after the file.

    Raises:
        ConfigError: Every problem, each with its dotted path.
    """
    path = find_file(path)
    data = read_run(path)
    return structure(apply(data, overrides or []), source=str(path))


def read_run(path: Path) -> Settings:
    """The run that a file describes, before it is validated; see `load`. ConfigError where it cannot be read."""
    data = read(path)
    if path.suffix == ".json" and "trainer" in data:
        from quell.configs.legacy import conversion

        data, report = conversion.convert(data)
        defaults = sum("the older program's default" in line for line in report)
        log.info(
            "%s: an older configuration of %d keys; %d more have that program's defaults (--verbose lists all)",
            path.name,
            len(report) - defaults,
            defaults,
        )
        for line in report:
            log.debug("%s: %s", path.name, line)
    if data.get("name", "") == "":
        data["name"] = path.stem
    return data


def find_file(path: str | Path) -> Path:
    """The file that a user means: one that is there, or else one that comes with the project.

    The latter is found from every folder by its path (`configs/r2r.yaml`) and by its name alone (`r2r`).
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        return path
    named = ROOT / "configs" / f"{path}.yaml"
    return next((file for file in (resolve(path), ROOT / path, named) if file.is_file()), _named_today(path))


def _named_today(path: Path) -> Path:
    """The YAML that replaces an older program's JSON that is not there: configs/NAME.yaml for NAME.json."""
    if path.suffix != ".json" or path.exists():
        return path
    name = f"{OLD_NAMES.get(path.stem, path.stem)}.yaml"
    for replacement in (path.with_name(name), ROOT / "configs" / name):
        if replacement.is_file():
            log.info("%s: no such file; taking %s, which has its settings", path, replacement)
            return replacement
    return path


def read(path: Path) -> Settings:
    """Read a YAML or JSON file as a plain mapping; ConfigError for anything else (bounds: configs/documents.py)."""
    try:
        if path.stat().st_size > documents.MAX_CHARACTERS * 4:
            raise ConfigError(f"{path}: too large for a configuration ({path.stat().st_size} bytes)")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        neighbours = sorted(file.stem for file in path.parent.glob("*.yaml")) if missing else []
        hint = f"; {did_you_mean(path.stem, neighbours)}" if neighbours else ""
        raise ConfigError(f"cannot read the configuration {path}: {_reason(error)}{hint}") from error
    try:
        data = documents.parse_json(text) if path.suffix == ".json" else parse(text)
    except ConfigError as error:
        raise ConfigError(error.problems, source=str(path)) from error
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping of sections (pipeline, data, ...)", source=str(path))
    return data


def apply(data: Settings, overrides: list[str]) -> Settings:
    """A copy of the mapping with each `a.b=c` applied; values are read as YAML. ConfigError for malformed ones."""
    data, problems = copy.deepcopy(data), []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key) or key.count(".") >= MAX_KEY_PARTS:
            problems.append(f"'{override}': an override looks like section.key=value")
            continue
        place = data
        *parents, last = key.split(".")
        for parent in parents:
            inner = place.get(parent)
            if not isinstance(inner, dict):
                inner = {"name": inner} if isinstance(inner, str) else {}
                place[parent] = inner
            place = inner
        try:
            place[last] = parse(text)
        except ConfigError as error:
            problems.append(f"'{override}': {error}")
    if problems:
        raise ConfigError(problems, source="command line")
    return data


def structure(data: Settings, *, source: str = "") -> RunConfig:
    """Validate a plain mapping as a run; ConfigError with every problem.

    `source` names the file in the error.
    """
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, lambda path: _hint(path, data)), source=source) from error


def dump(config: BaseModel) -> str:
    """The complete configuration as YAML, including defaults; loading it gives an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def parse(text: str) -> Any:
    """Parse YAML with plain types only; `1e-4` is a number. ConfigError where it cannot be read (configs/documents)."""
    return documents.parse_yaml(text)


def _hint(path: Sequence[str], data: Settings) -> str:
    """A hint for an unknown key: the section it belongs to, or the most similar key of its own section."""
    section: Any = RunConfig
    for depth, part in enumerate(path[:-1]):
        section = _pipeline_model(data) if (depth, part) == (0, "pipeline") else _section(section, part)
        if section is None:
            return "no key is allowed here"
    for name in RunConfig.model_fields:
        inner = _section(RunConfig, name)
        if inner is not None and path[-1] in inner.model_fields:
            return f"did you mean '{name}.{path[-1]}'?"
    return did_you_mean(path[-1], list(section.model_fields))


def _section(model: Any, name: str) -> type[BaseModel] | None:
    """The model class behind a field, looking through Optional and dict; None where the field is no section."""
    field = model.model_fields.get(name)
    if field is None:
        return model
    candidates = [field.annotation, *typing.get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _pipeline_model(data: Any) -> type[BaseModel] | None:
    """The Config class of the method that a mapping names; None where there is no such method."""
    try:
        cls: Any = find("pipelines", data["pipeline"]["name"])
        return cls.Config
    except (ConfigError, KeyError, TypeError):
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, without the errno."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or _one_line(error)).lower() if isinstance(error, OSError) else _one_line(error)
