"""From a YAML file and `a.b=c` overrides to a RunConfig, or to one report of every problem; and back to YAML."""

import copy
import json
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from configs.errors import ConfigError
from configs.registry import find
from configs.schema import RunConfig
from configs.support.logs import get_logger
from configs.support.mappings import Settings
from configs.support.suggestions import did_you_mean
from configs.validation import explain

try:
    from yaml import CSafeLoader as SafeLoader  # ten times faster, where PyYAML was built with libyaml
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

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
    path = Path(path)
    data = read(path)
    if path.suffix == ".json" and "trainer" in data:
        from configs.legacy import conversion

        data, report = conversion.convert(data)
        for line in report:
            log.info("%s: %s", path.name, line)
    data.setdefault("name", path.stem)
    return structure(apply(data, overrides or []), source=str(path))


def read(path: Path) -> Settings:
    """Read a YAML or JSON file as a plain mapping; ConfigError for repeated keys, or anything else than a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        neighbours = sorted(file.stem for file in path.parent.glob("*.yaml")) if missing else []
        hint = f"; {did_you_mean(path.stem, neighbours)}" if neighbours else ""
        raise ConfigError(f"cannot read the configuration {path}: {_reason(error)}{hint}") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else parse(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(f"not readable as {path.suffix[1:].upper()}: {_one_line(error)}", source=str(path)) from error
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping of sections (pipeline, data, ...)", source=str(path))
    return data


def apply(data: Settings, overrides: list[str]) -> Settings:
    """A copy of the mapping with each `a.b=c` applied; values are read as YAML. ConfigError for malformed ones."""
    data, problems = copy.deepcopy(data), []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
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
        except yaml.YAMLError as error:
            problems.append(f"'{override}': the value is not YAML: {_one_line(error)}")
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
    """Parse YAML with safe types only; `1e-4` is a number, and repeated keys are an error."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(SafeLoader):
    """A SafeLoader that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key '{key}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, which takes 1e-4 for a string because it has no dot
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


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


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, without the errno."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or _one_line(error)).lower() if isinstance(error, OSError) else _one_line(error)
