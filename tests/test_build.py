"""What setup.cfg promises, constraints.txt pins and the code imports agree."""

import ast
import configparser
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from configs.support.paths import ROOT

OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")}


def setup() -> configparser.ConfigParser:
    """setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> dict[str, Requirement]:
    """The requirements in a list of lines, by canonical name."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def declared() -> dict[str, dict[str, Requirement]]:
    """Requirements by list: install_requires, and each extra."""
    parser = setup()
    extras = {name: requirements(text) for name, text in parser["options.extras_require"].items()}
    return {"install_requires": requirements(parser["options"]["install_requires"]), **extras}


def imported() -> dict[str, set[str]]:
    """Third-party modules the packages import, with the files that do."""
    found: dict[str, set[str]] = {}
    for file in (path for folder in OURS for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in (name.split(".")[0] for name in names):
                if name not in OURS and name not in sys.stdlib_module_names:
                    found.setdefault(name, set()).add(file.relative_to(ROOT).as_posix())
    return found


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
    for name, requirement in (declared()["install_requires"] | declared()["dev"]).items():
        assert name in pins, f"{name} has no pin"
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{pins[name]}, {requirement}"


def test_no_pin_ties_a_machine_to_one_build() -> None:
    pins = requirements((ROOT / "constraints.txt").read_text())
    assert [name for name, pin in pins.items() if "+" in str(pin.specifier)] == []


def test_a_cuda_build_of_torch_is_allowed() -> None:
    torch = declared()["install_requires"]["torch"]
    assert torch.specifier.contains("2.4.0+cu121") and torch.specifier.contains("2.13.0")


def test_nothing_is_installed_as_an_importable_package() -> None:
    options = setup()["options"]
    assert options["packages"] == options["py_modules"] == ""


@pytest.mark.xdist_group("kept")
def test_groups_are_kept_together_by_the_installed_pytest_and_xdist(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@kept")
