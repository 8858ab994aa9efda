"""Measuring from Python gives the report that the command line writes."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

import quell
from quell.api.evaluations import Evaluation
from quell.configs.errors import ConfigError, DataError, MachineError
from quell.launch import evaluate


def test_the_report_is_that_of_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--run", str(trained), "--baseline", "noisy", "--pictures", "1"]
    assert evaluate.main([*words, "--output", str(tmp_path / "command.json")]) == 0
    assert "| pd |" in capsys.readouterr().out
    report = quell.evaluate(trained, baselines=["noisy"], pictures=1, output=tmp_path / "python.json")
    assert capsys.readouterr().out == "", "a notebook shows the report itself"
    by_command, by_python = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("command", "python"))
    assert by_python.pop("seconds") >= 0 and by_command.pop("seconds") >= 0
    assert by_python == by_command
    for name in ("png", "md"):
        suffixed = [(tmp_path / f"{stem}.{name}").read_bytes() for stem in ("command", "python")]
        assert suffixed[0].replace(b"command", b"python") == suffixed[1]
    assert len(report.rows) == 3 and report.rows[0]["key"] == "test000"
    assert report.means["pd_cross/psnr"] == pytest.approx(sum(row["pd_cross/psnr"] for row in report.rows) / 3)
    assert "| pd |" in str(report) and "![" not in report._repr_markdown_()


def test_infinities_are_numbers_again(tmp_path: Path) -> None:
    content = {"rows": [{"index": 0, "key": "a", "x/psnr": "inf", "x/ssim": None}], "means": {"x/psnr": "inf"}}
    (tmp_path / "report.json").write_text(json.dumps({**content, "table": []}))
    report = Evaluation(tmp_path / "report.json")
    assert report.rows[0]["x/psnr"] == report.means["x/psnr"] == math.inf and math.isnan(report.rows[0]["x/ssim"])
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DataError, match="no report of an evaluation"):
        Evaluation(tmp_path / "report.json")


def test_rows_become_a_data_frame_only_where_pandas_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text('{"rows": [{"index": 0}], "means": {}, "table": []}')
    report = Evaluation(tmp_path / "report.json")

    class Pandas:
        DataFrame = list

    monkeypatch.setattr(importlib, "import_module", lambda name: Pandas)
    assert report.to_pandas() == [{"index": 0}]

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MachineError, match="pip install pandas"):
        report.to_pandas()


@pytest.mark.parametrize(
    "options",
    [{"which": "Best"}, {"preset": "publishd"}, {"limit": 0}, {"batch": 0}, {"tune": -1}, {"baselines": ["median"]}],
)
def test_options_are_checked_as_those_of_the_command_are(trained: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options)).removesuffix('s')}: expected"):
        quell.evaluate(trained, **options)


def test_a_report_is_shown_where_only_its_json_file_was_copied(tmp_path: Path) -> None:
    content = {"rows": [], "means": {}, "table": [{"field": "pd", "image": "noisy"}]}
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert "| pd | noisy |" in str(Evaluation(tmp_path / "report.json"))
