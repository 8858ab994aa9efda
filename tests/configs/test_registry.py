"""A name in a YAML is a file in a folder; arguments are checked against the constructor before anything is built."""

from pathlib import Path

import pytest

from configs import registry
from configs.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, registered like models/, and named after its test because Python caches imports."""
    place = tmp_path / f"things_of_{tmp_path.name}"
    place.mkdir()
    (place / "__init__.py").write_text("")
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
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
