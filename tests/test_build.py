"""Packaging and project files agree with each other: requirements, pins, imports, versions, and what CI runs."""

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from quell.configs.support.paths import ROOT

OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")}


def setup() -> configparser.ConfigParser:
    """The parsed setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> dict[str, Requirement]:
    """The requirements in a list of lines, by canonical name."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    listed = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in listed}


def declared() -> dict[str, dict[str, Requirement]]:
    """Requirements by list: install_requires, and each extra."""
    parser = setup()
    extras = {name: requirements(text) for name, text in parser["options.extras_require"].items()}
    return {"install_requires": requirements(parser["options"]["install_requires"]), **extras}


def imported() -> dict[str, set[str]]:
    """Third-party module -> the files of the packages that import it."""
    importers: dict[str, set[str]] = {}
    for file in (path for folder in OURS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in (name.split(".")[0] for name in names):
                if name not in OURS and name not in sys.stdlib_module_names:
                    importers.setdefault(name, set()).add(file.relative_to(ROOT).as_posix())
    return importers


def yaml_file(name: str) -> Any:
    """A parsed YAML file of the project's root."""
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def recipe(target: str) -> list[str]:
    """The commands of one Makefile target, with its variables filled in."""
    text = (ROOT / "Makefile").read_text("utf-8")
    variables = dict(re.findall(r"^(\w+) := (.+)$", text, flags=re.MULTILINE))
    body = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, flags=re.MULTILINE)
    assert body, f"the Makefile has no target {target}"
    commands = body[1]
    while "$(" in commands:
        commands = re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], commands)
    return [line.strip() for line in commands.splitlines()]


def test_every_import_is_declared() -> None:
    known = {name for group in declared().values() for name in group}
    distributions = packages_distributions()
    missing = {
        module: sorted(files)
        for module, files in imported().items()
        if not {canonicalize_name(name) for name in distributions.get(module, [module])} & known
    }
    assert not missing


def test_every_default_requirement_is_pinned_inside_its_range() -> None:
    pins = requirements((ROOT / "constraints.txt").read_text())
    wanted = declared()["install_requires"] | declared()["dev"]
    for extra in wanted.pop("quell").extras:  # of which the development environment has all packages
        wanted |= declared()[extra]
    for name, requirement in wanted.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue  # for another platform
        assert name in pins, f"{name} has no pin"
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{pins[name]}, {requirement}"


def test_no_pin_ties_a_machine_to_one_build() -> None:
    pins = requirements((ROOT / "constraints.txt").read_text())
    assert [name for name, pin in pins.items() if "+" in str(pin.specifier)] == []


def test_a_cuda_build_of_torch_is_allowed() -> None:
    torch = declared()["install_requires"]["torch"]
    assert torch.specifier.contains("2.6.0+cu124") and torch.specifier.contains("2.13.0")


def test_only_quell_is_installed_as_an_importable_package() -> None:
    """setup.py lists the packages; tests/quell/test_environments.py looks into the wheel that comes of it."""
    assert not {"packages", "py_modules"} & set(setup()["options"])


def test_the_version_is_the_same_everywhere() -> None:
    version = setup()["metadata"]["version"]
    citation = yaml_file("CITATION.cff")
    assert citation["version"] == version
    assert citation["license"] == setup()["metadata"]["license"]
    newest = re.search(r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)
    assert newest and (newest[1], newest[2]) == (version, str(citation["date-released"]))


def test_the_citation_has_what_the_format_requires() -> None:
    citation = yaml_file("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == [{"name": setup()["metadata"]["author"]}]


def test_ruff_refuses_any_version_but_the_pinned_one() -> None:
    pins = requirements((ROOT / "constraints.txt").read_text())
    required = re.search(r'^required-version = "(.+?)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert required and required[1] == str(pins["ruff"].specifier)


def test_commit_hooks_run_the_commands_that_ci_runs() -> None:
    (local,) = yaml_file(".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"]: hook for hook in local["hooks"]}
    assert local["repo"] == "local" and all(hook["language"] == "system" for hook in hooks.values())
    run = [hook["entry"].replace(" --force-exclude", "") for hook in hooks.values()]
    checks = [command.removesuffix(" .").replace(" --check", "") for command in recipe("lint") + recipe("types")]
    assert run == checks


def test_the_slow_lane_and_the_lowest_versions_run_on_a_schedule() -> None:
    workflow = yaml_file(".github/workflows/slow.yml")
    assert {"schedule", "workflow_dispatch"} == workflow["on"].keys()
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {"make test-slow", "make test-lowest"} <= set(lines)


def test_the_workflow_runs_the_script_that_runs_everything() -> None:
    workflow = yaml_file(".github/workflows/ci.yml")
    assert {"push", "pull_request"} <= workflow["on"].keys()
    (job,) = workflow["jobs"].values()
    assert job["timeout-minutes"] == 90
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (version,) = [step["with"]["python-version"] for step in job["steps"] if "with" in step]
    assert Requirement(f"python{setup()['options']['python_requires']}").specifier.contains(version)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    targets = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert targets == ["env", "test"]


def test_issue_templates_have_a_name_and_a_purpose() -> None:
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert [path.stem for path in templates] == ["bug", "feature"]
    for path in templates:
        _, front, body = path.read_text("utf-8").split("---\n", 2)
        assert yaml.safe_load(front).keys() == {"name", "about", "labels"} and body.strip()


def test_every_slow_test_runs_in_exactly_one_lane() -> None:
    assert recipe("tests")[0].endswith('-m "not slow"')
    assert "-m slow" in recipe("test-slow")[0]
    assert "slow" in setup()["tool:pytest"]["markers"]


@pytest.mark.xdist_group("kept")
def test_groups_are_kept_together_by_the_installed_pytest_and_xdist(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@kept")
