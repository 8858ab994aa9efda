"""The command `quell` says where its files are and which version it is, in a checkout that was never installed too."""

import importlib.metadata
import sys

import pytest

import quell
from quell import command_line
from quell.configs.support.paths import ROOT


def test_the_path_of_a_file_that_comes_with_quell_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quell", "--path", "configs/accelerate/cpu.yaml"])
    assert command_line.main() == 0
    assert capsys.readouterr().out == f"{ROOT / 'configs/accelerate/cpu.yaml'}\n"
    for words in (["configs/accelerate/cpu.yml"], []):
        monkeypatch.setattr(sys, "argv", ["quell", "--path", *words])
        assert command_line.main() == 2


def test_a_checkout_knows_its_version_without_being_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(quell, "version", missing)
    assert f"version = {quell.__version__}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
