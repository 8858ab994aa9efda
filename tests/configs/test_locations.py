"""Runs stay below the project's run root; URLs are of known protocols and hold no credentials."""

from pathlib import Path

import pytest

from quell.configs import loader
from quell.configs.errors import ConfigError, DataError, run_command
from quell.configs.locations import run_folder
from quell.configs.support.paths import ROOT
from quell.configs.support.secrets import mask
from quell.launch import train

QUICKSTART = ROOT / "configs" / "quickstart.yaml"


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc/x", "a/../../b", "~/x", "a\nb", "a//b", "./a", "-x", "x" * 300, "\x00"]
)
def test_a_name_does_not_lead_out_of_the_run_root(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loader.structure({"name": name, "pipeline": {"name": "r2r", "sigma": 0.1}})
    assert str(caught.value).startswith("name: ") and "\n" not in str(caught.value)


def test_a_name_may_have_sub_folders() -> None:
    assert loader.load(QUICKSTART, ["name=knee/first"]).name == "knee/first"


@pytest.mark.parametrize("split", ["..", "../test", "/tmp"])
def test_a_split_is_a_sub_folder(split: str) -> None:
    with pytest.raises(ConfigError, match="data.val_split"):
        loader.load(QUICKSTART, [f"data.val_split={split}"])


def test_a_run_folder_leaves_the_project_by_an_absolute_path_only(tmp_path: Path) -> None:
    assert run_folder("runs/first") == ROOT / "runs/first"
    assert run_folder(str(tmp_path)) == tmp_path
    for text in ("../first", "runs/../../first", "runs/a\nb", "runs/a\x1bb", "", "  ", "runs/\udcff"):
        with pytest.raises(ConfigError, match="--run-dir"):
            run_folder(text)


def test_a_command_refuses_such_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--config", str(QUICKSTART), "--run-dir", "../elsewhere"]) == 2
    assert "leads out of" in capsys.readouterr().err
    assert not (ROOT.parent / "elsewhere").exists()


@pytest.mark.parametrize(
    ("root", "says"),
    [
        ("ftp://host/x", "unknown protocol"),
        ("nosuch://x", "unknown protocol"),
        ("simplecache::s3://bucket/x", "unknown protocol"),
        ("https://", "names no folder"),
        ("https://me:geheim@host/x", "contains credentials"),
        ("s3://key:gehe/im@bucket/x", "contains credentials"),
        ("https://host/x?X-Amz-Signature=geheim", "contains credentials"),
        ("https:/me:geheim@host/x", "two slashes after https:"),
        ("data\nx", "line break"),
    ],
)
def test_a_location_of_data_is_a_path_or_a_plain_url(root: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        loader.load(QUICKSTART, [f"data.root={root!r}" if "\n" not in root else 'data.root="data\\nx"'])
    assert "geheim" not in str(caught.value) and "gehe/im" not in str(caught.value)


@pytest.mark.parametrize(
    "root", ["hf://datasets/me/data@main", "s3://bucket/x", "gs://b/x", "https://h:80/x", "a/b", "../b"]
)
def test_usual_locations_are_accepted(root: str) -> None:
    assert loader.load(QUICKSTART, [f"data.root={root}"]).data.root == root


def test_credentials_are_masked_in_every_error(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise DataError("https://me:geheim@host/a?sig=geheim&v=1: does not exist; hf_abcdefghijklmnopqrst")

    assert run_command(work) == 4
    assert capsys.readouterr().err == "error: https://***@host/a?sig=***&v=***: does not exist; ***\n"
    assert mask(f"{Path('https://me:geheim@host/a')}: no such folder") == "https:/***@host/a: no such folder"
    assert mask("hf://datasets/me/data@main/train") == "hf://datasets/me/data@main/train"
    assert mask("s3://user:pa/ss@bucket/x and 'https://t@h/x'") == "s3://***@bucket/x and 'https://***@h/x'"
