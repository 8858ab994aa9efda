"""The schema of each kind of YAML file: runs, stage files, sites, studies."""

from collections.abc import Callable

from quell.configs.schema import RunConfig
from quell.configs.studies import Study
from quell.schema.catalogues import Schema, catalogue_schemas, schema_of
from quell.slurm.stages.schema import Resources, Stage, StageFile
from quell.slurm.stages.site import Site

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run_schema() -> Schema:
    """A configuration of a run (configs/*.yaml), with every method, network and loss."""
    schema, definitions = schema_of(RunConfig)
    return _document("Quell run", schema, {**definitions, **catalogue_schemas()})


def stages_schema() -> Schema:
    """A stage file (configs/stages/*.yaml)."""
    schema, definitions = schema_of(StageFile)
    definitions["Site"], of_site = _of_site()
    for section in (Resources, Stage):
        definitions[section.__name__], inner = schema_of(section)
        definitions |= inner
    definitions |= of_site
    properties = schema["properties"]
    for key, name in (("site", "Site"), ("resources", "Resources")):
        properties[key] = {**properties[key], "$ref": f"#/$defs/{name}"}
        properties[key].pop("type", None)
        properties[key].pop("additionalProperties", None)
    properties["stages"] = {**properties["stages"], "additionalProperties": {"$ref": "#/$defs/Stage"}}
    return _document("Quell stages", schema, definitions)


def site_schema() -> Schema:
    """A site file (configs/sites/*.yaml)."""
    return _document("Quell site", *_of_site())


def study_schema() -> Schema:
    """A study (configs/studies/*.yaml)."""
    return _document("Quell study", *schema_of(Study))


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "run": run_schema,
    "stages": stages_schema,
    "site": site_schema,
    "study": study_schema,
}
"""Kind of YAML file -> its schema."""


def _of_site() -> tuple[Schema, dict[str, Schema]]:
    """A site, whose container may be written as a command alone."""
    schema, definitions = schema_of(Site)
    container = definitions["Container"]
    definitions["Container"] = {"anyOf": [{"type": "string", "description": "A command before python."}, container]}
    return schema, definitions


def _document(title: str, schema: Schema, definitions: dict[str, Schema]) -> Schema:
    return {"$schema": DIALECT, "title": title, **schema, "$defs": dict(sorted(definitions.items()))}
