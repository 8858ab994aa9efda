"""The JSON schemas accept what the loader accepts, refuse what it refuses where a schema can, and explain every key."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from quell.configs import loader, registry
from quell.configs.errors import ConfigError
from quell.configs.support.paths import ROOT
from quell.schema import command, reference
from quell.schema.catalogues import Schema, argument_descriptions
from quell.schema.documents import SCHEMAS

FOLDERS = {"run": "configs", "stages": "configs/stages", "site": "configs/sites", "study": "configs/studies"}


@pytest.fixture(scope="module")
def schemas() -> dict[str, Schema]:
    return {kind: schema() for kind, schema in SCHEMAS.items()}


def errors(schema: Schema, data: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize("kind", FOLDERS)
def test_every_file_that_comes_with_the_project_is_valid(kind: str, schemas: dict[str, Schema]) -> None:
    Draft202012Validator.check_schema(schemas[kind])
    files = sorted((ROOT / FOLDERS[kind]).glob("*.yaml"))
    assert files
    problems = {file.name: errors(schemas[kind], loader.read(file)) for file in files}
    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize("name", ["tcfl", "r2r", "cross_guided", "progressive_training_stage2", "spectroformer"])
def test_a_complete_configuration_with_all_defaults_is_valid(name: str, schemas: dict[str, Schema]) -> None:
    complete = loader.load(name).model_dump(mode="json")
    assert errors(schemas["run"], complete) == []


@pytest.mark.parametrize(
    "text",
    [
        "pipeline: supervised",
        "pipeline: {name: supervised, network: unet}",
        "pipeline: {name: supervised, network: {name: unet, width: 8, norm: group}, losses: {l1: 1, vgg: null}}",
        "pipeline: {name: supervised, losses: [{name: l1, weight: 2.0}, {name: charbonnier, eps: 1e-2}]}",
        "pipeline: {name: supervised, losses: l1}",
        "pipeline: {name: supervised, network: {target: torch.nn.Conv2d, kernel_size: 1}}",
        "{pipeline: supervised, loop: {precision: no}}",
        "{pipeline: supervised, data: {resize: [64, 48]}, optimizer: {phases: {restorer: {lr: 1e-4}}}}",
        "pipeline: {name: dual_domain, content: {name: cosine_content}}",
    ],
)
def test_short_forms_are_valid(text: str, schemas: dict[str, Schema]) -> None:
    loader.structure(loader.parse(text))
    assert errors(schemas["run"], loader.parse(text)) == []


def test_modules_of_the_users_own_are_valid_with_any_settings(schemas: dict[str, Schema]) -> None:
    for text in (
        "pipeline: {name: mine.method, gain: 2}",
        "pipeline: {name: supervised, network: {name: mine.network, gain: 2}, losses: {mine.loss: {weight: 1, a: 2}}}",
    ):
        assert errors(schemas["run"], loader.parse(text)) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{}", "$"),
        ("pipeline: {network: unet}", "$.pipeline"),
        ("pipeline: supervise", "$.pipeline"),
        ("{pipeline: supervised, optimiser: {lr: 1}}", "$"),
        ("{pipeline: supervised, loop: {max_step: 5}}", "$.loop"),
        ("{pipeline: supervised, loop: {max_steps: 0}}", "$.loop.max_steps"),
        ("{pipeline: supervised, loop: {max_steps: yes}}", "$.loop.max_steps"),
        ("{pipeline: supervised, loop: {precision: fp8}}", "$.loop.precision"),
        ("{pipeline: supervised, optimizer: {betas: [0.9]}}", "$.optimizer.betas"),
        ("{pipeline: supervised, optimizer: {name: lion}}", "$.optimizer.name"),
        ("{pipeline: supervised, data: {cache: {retries: -1}}}", "$.data.cache.retries"),
        ("{pipeline: supervised, init_from: {parts: [a]}}", "$.init_from"),
        ("pipeline: {name: supervised, sigma: 1}", "$.pipeline"),
        ("pipeline: {name: supervised, network: {name: unet, widths: [8]}}", "$.pipeline"),
        ("pipeline: {name: supervised, network: {name: unet, width: 0}}", "$.pipeline"),
        ("pipeline: {name: supervised, network: {name: unet, norm: layer}}", "$.pipeline"),
        ("pipeline: {name: supervised, losses: {l3: 1}}", "$.pipeline"),
        ("pipeline: {name: supervised, losses: {l1: 0}}", "$.pipeline"),
        ("pipeline: {name: tcfl, weights: {cycles: 1}}", "$.pipeline"),
        ("pipeline: {name: r2r, noise: {given: 1}}", "$.pipeline"),
        ("pipeline: {name: dual_domain, content: l3}", "$.pipeline"),
    ],
)
def test_what_the_loader_refuses_is_refused(text: str, place: str, schemas: dict[str, Schema]) -> None:
    with pytest.raises(ConfigError):
        loader.structure(loader.parse(text))
    found = errors(schemas["run"], loader.parse(text))
    assert found and all(error.startswith(place) for error in found), found


@pytest.mark.parametrize(
    ("kind", "text", "is_valid"),
    [
        ("stages", "stages: {a: {config: r2r, after: b}, b: {config: r2r, after: {jobs: [12], c: afterany}}}", True),
        ("stages", "stages: {a: {config: r2r, after: {b: afternever}}}", False),
        ("stages", "stages: {a: {config: r2r, resources: {gpus_per_node: -1}}}", False),
        ("stages", "{site: {containers: x}, stages: {a: {config: r2r}}}", False),
        ("stages", "stages: {}", False),
        ("stages", "stages: {a: {list: {b: {config: r2r}}, continue: {starts: 2}}}", True),
        ("site", "container: apptainer exec quell.sif", True),
        ("site", "container: {runtime: docker, image: quell}", False),
        ("study", "runs: {a: {config: r2r, seeds: [1, 2]}}", True),
        ("study", "runs: {a: {seeds: [1]}}", False),
    ],
)
def test_other_files_are_checked_too(kind: str, text: str, is_valid: bool, schemas: dict[str, Schema]) -> None:
    assert (errors(schemas[kind], loader.parse(text)) == []) is is_valid


def properties_of(node: object, path: str = "$") -> Iterator[tuple[str, Schema]]:
    """Every property in a schema, with its path."""
    if isinstance(node, dict):
        for name, inner in node.get("properties", {}).items():
            yield f"{path}.{name}", inner
        for key, inner in node.items():
            yield from properties_of(inner, f"{path}.{key}")


def test_every_key_is_explained(schemas: dict[str, Schema]) -> None:
    """A reference to a section is explained by the section, and the name of a component by that of its schema."""
    silent = [
        path
        for schema in schemas.values()
        for path, inner in properties_of(schema)
        if not (inner.get("description") or "$ref" in inner or "const" in inner or path.endswith(".if.properties.name"))
        and ".if." not in path
    ]
    assert silent == []


def test_references_lead_somewhere(schemas: dict[str, Schema]) -> None:
    for schema in schemas.values():
        text = json.dumps(schema)
        names = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
        assert names <= schema["$defs"].keys()


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["site"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == SCHEMAS["site"]() and printed["$schema"].startswith("https://json-schema.org")
    assert command.main(["study", "--output", str(tmp_path / "study.json")]) == 0
    assert json.loads((tmp_path / "study.json").read_text()) == SCHEMAS["study"]()
    assert set(command.KINDS) == set(SCHEMAS)


def test_the_page_has_every_key_with_type_default_and_meaning(schemas: dict[str, Schema]) -> None:
    page = reference.page()
    for row in (
        "| `loop.max_steps` | integer (> 0) or `null` | `null` | Length in optimizer steps;",
        "| `optimizer.phases.NAME.lr` | number (> 0) or `null` | `null` | Peak learning rate",
        "| `width` | integer (1 to 4096) | `64` | Channels at full resolution. |",
        "| `losses` | [losses](#losses) | `{l1: {weight: 1}}` |",
        "| `stages` | mapping to section | required | The stages by name. |",
    ):
        assert row in page
    for folder in ("pipelines", "models", "losses"):
        assert all(f"\n### {name}\n" in page for name in registry.names(folder))
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines) and len(lines) > 250


def test_descriptions_of_arguments_are_taken_from_docstrings() -> None:
    class Example:
        """A class.

        Args:
            first: One line
                and another one.
            second: Short: with a colon.

        Shape:
            third: no argument.
        """

    expected = {"first": "One line and another one.", "second": "Short: with a colon."}
    assert argument_descriptions(Example) == expected


def test_every_argument_of_a_network_or_loss_is_described(schemas: dict[str, Schema]) -> None:
    definitions: dict[str, Any] = schemas["run"]["$defs"]
    components = [name for name in definitions if name.startswith(("models.", "losses."))]
    assert len(components) > 25
    missing = [
        f"{name}.{key}"
        for name in components
        for key, inner in definitions[name]["properties"].items()
        if not inner.get("description")
    ]
    assert missing == []
