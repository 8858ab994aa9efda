"""YAML + `a.b=c` -> RunConfig, or one report with every problem in it; and back to YAML."""

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
from configs.support.suggestions import did_you_mean
from configs.validation import explain

try:
    from yaml import CSafeLoader as SafeLoader  # ten times faster, where PyYAML was built with libyaml
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]


def load(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """The run that a YAML (or older JSON) file and `a.b=c` overrides describe.

    Raises ConfigError listing every problem with its dotted path; nothing is run before all is well.
    """
    path = Path(path)
    data = read(path)
    if path.suffix == ".json" and "trainer" in data:
        from configs.legacy import conversion

        data, account = conversion.convert(data)
        for line in account:
            print(f"{path.name}: {line}")
    data.setdefault("name", path.stem)
    return structure(apply(data, overrides or []), source=str(path))


def read(path: Path) -> dict[str, Any]:
    """The plain mapping in a YAML or JSON file; repeated keys are refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        missing = isinstance(error, FileNotFoundError) and path.parent.is_dir()
        here = sorted(file.stem for file in path.parent.glob("*.yaml")) if missing else []
        hint = f"; {did_you_mean(path.stem, here)}" if here else ""
        raise ConfigError(f"cannot read the configuration {path}: {_reason(error)}{hint}") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else parse(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(f"not readable as {path.suffix[1:].upper()}: {_one_line(error)}", source=str(path)) from error
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping of sections (pipeline, data, ...)", source=str(path))
    return data


def apply(data: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The mapping with each `a.b=c` put in its place; values are read as YAML."""
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


def structure(data: dict[str, Any], *, source: str = "") -> RunConfig:
    """The typed, frozen run of a plain mapping; ConfigError with every problem otherwise."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, lambda path: _hint(path, data)), source=source) from error


def dump(config: BaseModel) -> str:
    """The complete configuration, defaults included, as YAML that loads back equal."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)


def parse(text: str) -> Any:
    """YAML with safe types only, `1e-4` read as a number, and repeated keys refused."""
    return yaml.load(text, Loader=_StrictLoader)


class _StrictLoader(SafeLoader):
    """A SafeLoader that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                said = f"the key '{key}' is given twice"
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _hint(path: Sequence[str], data: dict[str, Any]) -> str:
    """A hint for an unknown key: the section that has it, or the nearest key of its own section."""
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
    """The model class of a model's field, looking through Optional and dict; a dict's own keys stay with its values."""
    field = model.model_fields.get(name)
    if field is None:
        return model
    candidates = [field.annotation, *typing.get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _pipeline_model(data: Any) -> type[BaseModel] | None:
    """The Config class of the method a mapping names."""
    try:
        cls: Any = find("pipelines", data["pipeline"]["name"])
        return cls.Config
    except (ConfigError, KeyError, TypeError):
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _reason(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be read, without Python's number for it."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return (error.strerror or _one_line(error)).lower() if isinstance(error, OSError) else _one_line(error)
