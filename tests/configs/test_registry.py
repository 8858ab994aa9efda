"""A name in a YAML is a file in a folder; arguments are checked against the constructor before anything is built."""

import typing
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

import quell
from quell.configs import registry
from quell.configs.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the package, registered like models/, and named after its test because Python caches imports."""
    place = tmp_path / f"things_of_{tmp_path.name}"
    place.mkdir()
    (place / "__init__.py").write_text("")
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.setattr(quell, "__path__", [str(tmp_path), *quell.__path__])
    return place


def write(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text("from torch import nn\n" + body)


def test_only_the_named_file_is_imported(folder: Path) -> None:
    write(
        folder,
        "good",
        "class Good(nn.Module):\n    def __init__(self, width: int = 3) -> None:\n"
        "        super().__init__()\n        self.width = width\n",
    )
    write(folder, "broken", "raise RuntimeError('imported')\n")
    spec = registry.complete(folder.name, "good")
    assert spec == {"name": "good", "width": 3}
    assert registry.build(folder.name, spec).width == 3


def test_every_wrong_argument_is_named(folder: Path) -> None:
    write(
        folder,
        "picky",
        "class Picky(nn.Module):\n    def __init__(self, width: int, depth: int = 2, "
        "in_channels: int = 1) -> None:\n        super().__init__()\n",
    )
    with pytest.raises(registry.SettingsError) as caught:
        registry.complete(folder.name, {"name": "picky", "widht": 4, "depth": "deep"}, given=("in_channels",))
    text = str(caught.value)
    assert "unknown argument 'widht' of picky; did you mean 'width'?" in text
    assert "width: Field required" in text and "depth: " in text


def test_arguments_that_the_code_supplies_are_refused_in_the_yaml(folder: Path) -> None:
    write(
        folder,
        "net",
        "class Net(nn.Module):\n    def __init__(self, in_channels: int) -> None:\n        super().__init__()\n",
    )
    with pytest.raises(registry.SettingsError, match="unknown argument 'in_channels'"):
        registry.complete(folder.name, {"name": "net", "in_channels": 1}, given=("in_channels",))


def test_two_classes_in_a_file_are_refused(folder: Path) -> None:
    write(folder, "two", "class One(nn.Module): ...\nclass Two(nn.Module): ...\n")
    with pytest.raises(ConfigError, match="must define exactly one public class to be used by name, got One, Two"):
        registry.find(folder.name, "two")


def test_a_missing_package_is_named(folder: Path) -> None:
    write(folder, "needy", "import package_that_is_not_there\n")
    with pytest.raises(ConfigError, match="needs the package 'package_that_is_not_there'"):
        registry.find(folder.name, "needy")


def unbounded(annotation: Any) -> bool:
    """Whether an annotation lets any whole number or any real number through."""
    if typing.get_origin(annotation) is typing.Annotated:
        bounds = {kind for constraint in annotation.__metadata__ for kind in bounds_of(constraint)}
        return not {"lower", "upper"} <= bounds and any(map(unbounded, typing.get_args(annotation)[:1]))
    if annotation in (int, float, complex):
        return True
    return any(unbounded(part) for part in typing.get_args(annotation))


def bounds_of(constraint: Any) -> set[str]:
    names = {type(item).__name__ for item in getattr(constraint, "metadata", [constraint])}
    return {{"Ge": "lower", "Gt": "lower", "Le": "upper", "Lt": "upper"}.get(name, name) for name in names}


@pytest.mark.parametrize("folder", ["models", "losses"])
def test_every_number_that_a_component_takes_is_bounded(folder: str) -> None:
    """A width of a million is a slip of the pen that would end in the kernel's killing the process."""
    for name in registry.names(folder):
        cls: Any = registry.find(folder, name)
        hints = typing.get_type_hints(cls.__init__, include_extras=True)
        assert [argument for argument, hint in hints.items() if unbounded(hint)] == [], name


def test_an_unbounded_number_is_detected() -> None:
    assert unbounded(int | None) and unbounded(tuple[float, ...]) and unbounded(Annotated[int, Field(ge=1)])
    assert not unbounded(Annotated[int, Field(ge=1, le=9)] | None) and not unbounded(str)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "unet", "width": 0}, "width: Input should be greater than or equal to 1 (got 0)"),
        ({"name": "unet", "width": 1_000_000}, "width: Input should be less than or equal to 4096"),
        ({"name": "unet", "init_std": -0.1}, "init_std: Input should be greater than or equal to 0"),
        ({"name": "unet", "init_std": float("nan")}, "init_std: "),
        ({"name": "residual_unet", "widths": []}, "widths: "),
        ({"name": "residual_unet", "blocks": [1, 10**9]}, "blocks.1: "),
        ({"name": "srdensenet", "layers": -3}, "layers: "),
        ({"name": "dncnn", "depth": 10**6}, "depth: "),
    ],
)
def test_sizes_that_make_no_network_are_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(registry.SettingsError) as caught:
        registry.complete("models", spec)
    assert says in str(caught.value)
