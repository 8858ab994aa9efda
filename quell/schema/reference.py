"""The configuration reference, one page of Markdown made from the schemas: every key with type, default and meaning.

python -m quell.schema.reference --output configuration.md
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from quell.configs import registry
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.json_files import strict_json
from quell.schema.catalogues import WORDS, Schema
from quell.schema.documents import run_schema, site_schema, stages_schema, study_schema

INTRODUCTION = """# Configuration

Every key of every YAML file. A run needs only `pipeline`; the other keys have the defaults below. `a.b=c` on the
command line overrides `b` in the section `a`. The last column says in which units a number is. `quell schema` prints
the same as JSON schema, with which an editor completes and checks a file that begins with
`# yaml-language-server: $schema=FILE`.
"""

HEADINGS = {"pipelines": "Methods", "models": "Networks", "losses": "Losses"}
"""Folder -> the heading of what it offers."""
LARGEST = 10**6
"""Upper bounds from here on only catch slips of the pen; they are left out."""


def page() -> str:
    """The whole page."""
    run = run_schema()
    parts = [INTRODUCTION, "## Runs\n", *_sections(run, run["$defs"])]
    for folder, word in WORDS.items():
        parts.append(f"## {HEADINGS[folder]}\n")
        if folder == "pipelines":
            parts.append("The section `pipeline` of a run: `name` is the method, the other keys are its own.\n")
        else:
            parts.append(f"Where a key takes a {word}: its name alone, or a mapping of `name` and these arguments.\n")
        for name in registry.names(folder):
            schema = run["$defs"][f"{folder}.{name}"]
            parts += [f"### {name}\n", f"{_cell(schema['description'])}\n"]
            parts += _sections(schema, run["$defs"], skip=("name",), level=4)
    stages, site, study = stages_schema(), site_schema(), study_schema()
    for title, schema in (("Stage files", stages), ("Site files", site), ("Studies", study)):
        parts += [f"## {title}\n", f"{_cell(schema['description'])}\n", *_sections(schema, schema["$defs"])]
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Print the page, or write it to --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to a file instead of printing")
    options = parser.parse_args(arguments)
    if options.output is None:
        print(page(), end="")
    else:
        write_atomically(options.output, page())
    return 0


def type_text(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """What a key takes, in words: `integer, 1 to 64`; `a` or `b`; a section."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in WORDS:
            return f"[{WORDS[name]}](#{HEADINGS[name].lower()})"
        return "[losses](#losses)" if name == "weighted_losses" else type_text(definitions[name], definitions)
    if "const" in schema or "enum" in schema:
        return " or ".join(f"`{_yaml(value)}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_text(option, definitions) for option in schema["anyOf"]))
    return _plain_type(schema, definitions)


def _plain_type(schema: Schema, definitions: Mapping[str, Schema]) -> str:
    kind = schema.get("type", "anything")
    if kind == "null":
        return "`null`"
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "string":
        return "text"
    if kind == "array":
        if "prefixItems" in schema:
            return "[" + ", ".join(type_text(item, definitions) for item in schema["prefixItems"]) + "]"
        return f"list of {type_text(schema.get('items', {}), definitions)}"
    if kind == "object":
        if "properties" in schema:
            return "section"
        inner = schema.get("additionalProperties")
        return f"mapping to {type_text(inner, definitions)}" if isinstance(inner, dict) and inner else "mapping"
    return str(kind) + _bounds(schema) if isinstance(kind, str) else " or ".join(kind)


def _bounds(schema: Schema) -> str:
    """` (0 to 1)`, ` (> 0)`, or nothing."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    high = high if high is not None and high < LARGEST else None
    below = below if below is not None and below < LARGEST else None
    if low is not None and high is not None:
        return f" ({low:g} to {high:g})"
    signs = (("≥", low), (">", above), ("≤", high), ("<", below))
    shown = " and ".join(f"{sign} {bound:g}" for sign, bound in signs if bound is not None)
    return f" ({shown})" if shown else ""


def _sections(
    schema: Schema,
    definitions: Mapping[str, Schema],
    prefix: str = "",
    *,
    skip: tuple[str, ...] = (),
    level: int = 3,
    shown: dict[str, str] | None = None,
) -> Iterator[str]:
    """The table of a section, and those of the sections inside it, each kind of section once.

    Args:
        schema: Of the section.
        definitions: What it refers to.
        prefix: The path of the section, with a dot at its end.
        skip: Keys that are left out.
        level: Of the headings.
        shown: Definition -> the path where its table is.
    """
    shown = {} if shown is None else shown
    rows = {key: inner for key, inner in schema.get("properties", {}).items() if key not in skip}
    if not rows:
        yield "No further keys.\n"
        return
    sections = {key: _section_of(inner, definitions) for key, inner in rows.items()}
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key, inner in rows.items():
        section = sections[key]
        meaning = inner.get("description") or (section[1].get("description", "") if section else "")
        default = _default(inner, required=key in schema.get("required", ()), is_section=section is not None)
        lines.append(f"| `{prefix}{key}` | {_cell(type_text(inner, definitions))} | {default} | {_cell(meaning)} |")
    yield "\n".join(lines) + "\n"
    for key, section in sections.items():
        if section is None:
            continue
        name, content = section
        path = f"{prefix}{key}" + (".NAME" if "additionalProperties" in rows[key] else "")
        yield f"{'#' * level} {path}\n"
        if name in shown:
            yield f"The keys are those of `{shown[name]}`.\n"
            continue
        shown[name] = path
        yield f"{_cell(content.get('description', ''))}\n"
        yield from _sections(content, definitions, f"{path}.", level=level, shown=shown)


def _section_of(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[str, Schema] | None:
    """The section that a key holds, also as one of several kinds of values or as the values of a mapping: its name."""
    inner = schema.get("additionalProperties")
    candidates = [schema, *schema.get("anyOf", []), *([inner] if isinstance(inner, dict) else [])]
    for candidate in candidates:
        name = candidate.get("$ref", "").removeprefix("#/$defs/")
        found = definitions.get(name, {})
        for option in (found, *found.get("anyOf", [])):
            if name not in (*WORDS, "weighted_losses") and "properties" in option:
                return name, option
    return None


def _default(schema: Schema, *, required: bool, is_section: bool) -> str:
    if required:
        return "required"
    if "default" not in schema or (is_section and isinstance(schema["default"], dict)):
        return ""
    return f"`{_yaml(schema['default'])}`"


def _yaml(value: object) -> str:
    """A value as it is written in a YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, str):
        return value if value else '""'
    return f"{value:g}" if isinstance(value, float) else strict_json(value)


def _cell(text: str) -> str:
    """Text that stays what it is in a cell of a table; between backticks Markdown takes it literally anyway."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


if __name__ == "__main__":
    sys.exit(main())
