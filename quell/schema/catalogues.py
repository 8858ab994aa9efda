"""Parts of the schema that are chosen by `name`: methods, networks and losses, one schema for each file."""

import inspect
import re
import warnings
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, PydanticJsonSchemaWarning, core_schema

from quell.configs import registry

Schema = dict[str, Any]
"""A JSON schema."""

GIVEN = {"models": ("in_channels", "out_channels"), "losses": ("channels",)}
"""Arguments of constructors that come from the data, and that a YAML may not give."""

WORDS = {"models": "network", "losses": "loss", "pipelines": "method"}

OWN_MODULE: Schema = {"type": "string", "pattern": r"^\w+(\.\w+)+$"}
"""A module of the user's own, whose settings this schema does not know."""

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*)$")
_SECTION = re.compile(r"^(Args|Shape|Returns|Raises|Source|Sources|Note|Notes|Example):$")


class _Lenient(GenerateJsonSchema):
    """Leaves types that JSON does not have unchecked instead of failing."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def schema_of(model: type[BaseModel], prefix: str = "") -> tuple[Schema, dict[str, Schema]]:
    """The schema of a model, without titles, and the definitions that it refers to.

    Args:
        model: A section of a configuration.
        prefix: Comes before the names of its definitions, which two methods may share.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that JSON does not have is left out
        schema = model.model_json_schema(schema_generator=_Lenient, ref_template=f"#/$defs/{prefix}{{model}}")
    definitions = {prefix + name: _plain(inner) for name, inner in schema.pop("$defs", {}).items()}
    return _plain(schema), definitions


def catalogue_schemas() -> dict[str, Schema]:
    """Definitions `pipelines`, `models`, `losses`, `weighted_losses`, and one `FOLDER.NAME` for each file in them."""
    definitions: dict[str, Schema] = {}
    for name in registry.names("pipelines"):
        cls: Any = registry.find("pipelines", name)
        schema, inner = schema_of(cls.Config, f"pipelines.{name}.")
        schema["description"] = summary(cls)
        schema["properties"]["name"] = {"const": name, "description": schema["properties"]["name"]["description"]}
        definitions |= {f"pipelines.{name}": schema, **inner}
    for folder in ("models", "losses"):
        for name in registry.names(folder):
            definitions[f"{folder}.{name}"] = _component(folder, name)
    for folder in WORDS:
        definitions[folder] = _chosen_by_name(folder)
    definitions["weighted_losses"] = _weighted_losses(definitions)
    _allow_library_networks(definitions)
    return definitions


def summary(cls: type) -> str:
    """The first paragraph of a class's docstring, on one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def argument_descriptions(cls: type) -> dict[str, str]:
    """Argument -> its description in the `Args:` of a class's docstring."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    is_inside = False
    for line in (inspect.getdoc(cls) or "").splitlines():
        if _SECTION.match(line):
            is_inside, current = line == "Args:", None
        elif is_inside and (match := _ARGUMENT.match(line)):
            current = found.setdefault(match[1], [match[2]])
        elif is_inside and current is not None:
            current.append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}


def _component(folder: str, name: str) -> Schema:
    """The schema of a network or a loss, from its constructor."""
    cls = registry.find(folder, name)
    fields: dict[str, Any] = registry.arguments(folder, name, given=GIVEN[folder])
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    schema, definitions = schema_of(create_model(name, __config__=config, **fields))
    assert not definitions, f"{folder}/{name}.py: arguments of constructors are plain values"
    described = argument_descriptions(cls)
    properties = {key: {**inner, **_described(described.get(key))} for key, inner in schema["properties"].items()}
    return {
        **schema,
        "description": summary(cls),
        "properties": {"name": {"const": name, "description": f"The {WORDS[folder]}."}, **properties},
        "required": ["name", *schema.get("required", [])],
    }


def _chosen_by_name(folder: str) -> Schema:
    """A mapping whose `name` decides which other keys it may have, or the name alone."""
    names = registry.names(folder)
    text = f"The {WORDS[folder]}: the name of a file in {folder}/, or a module of your own (a name with dots)."
    known = {"anyOf": [{"enum": names}, OWN_MODULE], "description": text}
    by_name = [
        {
            "if": {"properties": {"name": {"const": name}}, "required": ["name"]},
            "then": {"$ref": f"#/$defs/{folder}.{name}"},
        }
        for name in names
    ]
    named = {
        "type": "object",
        "properties": {"name": known},
        "required": ["name"],
        "allOf": by_name,
    }
    return {"anyOf": [known, named]}


def _allow_library_networks(definitions: dict[str, Schema]) -> None:
    """A network may be any class of another library, with `target` in place of `name` and all of its arguments."""
    library = definitions[f"models.{registry.TARGET_NETWORK}"]
    library["additionalProperties"] = True
    library["required"] = ["target"]
    without_name = {"allOf": [{"$ref": f"#/$defs/models.{registry.TARGET_NETWORK}"}, {"not": {"required": ["name"]}}]}
    definitions["models"]["anyOf"].append(without_name)


def _weighted_losses(definitions: dict[str, Schema]) -> Schema:
    """`{l1: 1.0, msssim: {weight: 0.2, scales: 3}}`, or a list of mappings with `name`."""
    weight = {"type": "number", "exclusiveMinimum": 0, "description": "Weight of this loss."}
    properties: dict[str, Schema] = {}
    entries: list[Schema] = []
    for name in registry.names("losses"):
        loss = definitions[f"losses.{name}"]
        arguments = {key: value for key, value in loss["properties"].items() if key != "name"}
        plain = {"type": "object", "additionalProperties": False, "description": loss["description"]}
        properties[name] = {
            "anyOf": [weight, {"type": "null"}, {**plain, "properties": {"weight": weight, **arguments}}],
            "description": loss["description"],
        }
        entry = {"name": {"const": name}, "weight": weight, **arguments}
        entries.append({**plain, "properties": entry, "required": ["name"]})
    own_entry = {"type": "object", "properties": {"name": OWN_MODULE}, "required": ["name"]}
    listed = {
        "type": "array",
        "items": {"anyOf": [{"enum": registry.names("losses")}, OWN_MODULE, own_entry, *entries]},
    }
    own = {OWN_MODULE["pattern"]: {"description": "A module of your own."}}
    mapping = {"type": "object", "properties": properties, "patternProperties": own, "additionalProperties": False}
    return {"anyOf": [mapping, listed, {"enum": registry.names("losses")}, OWN_MODULE]}


def _described(text: str | None) -> Schema:
    return {"description": text} if text else {}


def _plain(node: Any) -> Any:
    """A schema without pydantic's titles, and with each marker `{"catalogue": NAME}` replaced by a reference."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "catalogue" in node and isinstance(node["catalogue"], str):
        node = {"$ref": f"#/$defs/{node['catalogue']}", **{key: node[key] for key in node if key != "catalogue"}}
    kept = {key: value for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return {
        key: value
        if key in ("default", "enum", "const", "examples")
        else " ".join(value.split())
        if key == "description" and isinstance(value, str)
        else _plain(value)
        for key, value in kept.items()
    }
