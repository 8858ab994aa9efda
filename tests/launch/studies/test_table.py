"""The table that compares runs: its columns, means over seeds, and plot."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quell.configs.support.json_files import Record
from quell.launch.studies import plot, results, table
from quell.launch.studies.results import RunResult, Validation
from quell.launch.training import run
from quell.pipelines.dual_domain import DualDomain
from quell.pipelines.tcfl import Tcfl
from tests.support.small_runs import SmallRun

DUAL_DOMAIN_METRICS = {
    "pd_cross/psnr": 20.0,
    "pdfs_cross/psnr": 22.0,
    "pd_same/psnr": 16.0,
    "pdfs_same/psnr": 17.0,
    "pd_cross/noisy_psnr": 15.0,
    "pd/noisy/psnr": 15.0,
    "pdfs/noisy/psnr": 16.0,
    "pd/nlm/psnr": 24.0,
    "pdfs/nlm/psnr": 26.0,
    "pd_cross/ssim": 0.5,
    "pdfs_cross/ssim": 0.7,
    "floor": 0.4,
}


def test_quality_is_averaged_over_contrasts_by_path() -> None:
    row = results.restoration_quality(DUAL_DOMAIN_METRICS)
    assert [row[f"PSNR {name}"] for name in ("cross path", "same path", "noisy", "NLM")] == [21.0, 16.5, 15.5, 25.0]
    assert row["SSIM cross path"] == pytest.approx(0.6)
    assert row["SSIM same path"] is None
    single = results.restoration_quality({"restored/psnr": 30.0, "noisy/nlm/psnr": 28.0})
    assert (single["PSNR"], single["PSNR NLM"]) == (30.0, 28.0)
    guided = results.restoration_quality(
        {"pd/psnr": 30.0, "pdfs/psnr": 32.0, "pd/noisy/psnr": 20.0, "pdfs/noisy/psnr": 20.0}
    )
    assert guided["PSNR"] == 31.0


def runs() -> list[RunResult]:
    """Two seeds of one experiment, and a failed run of another method."""
    train: list[Record] = [{"step": 1, "cross": 2.0}, {"step": 2, "cross": 1.0}]
    dual: dict[str, float | str | None] = {
        "method": "dual_domain",
        "cross start": 2.0,
        "floor": 0.4,
        "PSNR cross path": 20.0,
        "status": "finished",
    }
    return [
        RunResult("no_skip", 1, dual, train, DualDomain.followed_loss),
        RunResult("no_skip", 2, {**dual, "PSNR cross path": 22.0}, train, DualDomain.followed_loss),
        RunResult(
            "plain",
            1,
            {"method": "r2r", "PSNR": 30.5, "floor": None, "status": "failed", "steps": 7.0},
            [{"step": 1, "loss_denoiser": 3.0}],
        ),
    ]


def test_runs_of_different_methods_share_a_table_with_mean_and_deviation_over_seeds() -> None:
    rows = table.rows(runs())
    assert rows[0] == {
        "experiment": "no_skip",
        "seeds": "2",
        "method": "dual_domain",
        "cross start": "2.000 ± 0.000",
        "floor": "0.400 ± 0.000",
        "PSNR cross path": "21.00 ± 1.41",
        "PSNR": None,
        "steps": None,
        "status": "finished",
    }
    assert rows[1]["PSNR"] == "30.50"
    assert rows[1]["cross start"] is None
    assert rows[1]["status"] == "failed"


def test_columns_without_information_are_left_out() -> None:
    (row,) = table.rows(runs()[:1])
    assert row == {"experiment": "no_skip", "cross start": "2.000", "floor": "0.400", "PSNR cross path": "20.00"}


def test_the_csv_has_every_run_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(table.csv_text(runs()))))
    assert [(row["experiment"], row["seed"], row["PSNR cross path"]) for row in rows] == [
        ("no_skip", "1", "20.0"),
        ("no_skip", "2", "22.0"),
        ("plain", "1", ""),
    ]


def test_minutes_do_not_include_the_time_between_processes() -> None:
    times = [("start", 0), ("train", 60), ("end", 120), ("resume", 5000), ("train", 5060)]
    assert results.active_minutes([{"event": event, "time": time} for event, time in times]) == 3.0


def test_a_rise_and_fall_of_psnr_is_in_the_table_and_the_picture(tmp_path: Path) -> None:
    curve = (Validation(25, 10.0, 0.1), Validation(50, 17.5, 0.2), Validation(75, 14.25, 0.3))
    row = results.rise_and_fall(curve)
    assert row == {
        "best at step": 50.0,
        "validation best": 17.5,
        "validation end": 14.25,
        "SSIM at best": 0.2,
        "SSIM at end": 0.3,
    }
    assert results.rise_and_fall(curve[:2]) == {}
    run = RunResult("tv", 1, row, validation=curve)
    text = table.write([run], tmp_path)
    assert "17.50" in text and "14.25" in text and "| 50 |" in text and "highest and last PSNR" in text
    assert (np.asarray(Image.open(tmp_path / "results.png").convert("L")) < 128).sum() > 500
    assert not plot.draw([RunResult("tv", 1, row, validation=curve[:2])], tmp_path / "few.png")


def test_small_shares_are_not_rounded_to_zero() -> None:
    (column,) = Tcfl.report_columns
    run = RunResult("tcfl", 1, {column.title: 0.00042}, report_columns=Tcfl.report_columns)
    assert table.rows([run]) == [{"experiment": "tcfl", column.title: "0.0004"}]
    assert "below 0.0001 the generator is constant" in table.notes([run])


def test_a_trained_run_gives_a_row_and_a_plot(small_run: SmallRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run.train(small_run("loop.max_steps=4"), folder)
    result = results.read_result(folder)
    assert result is not None
    assert [event["step"] for event in result.train_events] == [2, 4]
    assert result.row["cross start"] == result.train_events[0]["cross"]
    assert result.row["status"] == "finished"
    for column in ("floor", "cross/floor", "collapse", "leak source", "leak target", "minutes"):
        assert isinstance(result.row[column], float), column
    text = table.write([result, *runs()], tmp_path)
    assert f"| {result.experiment} |" in text
    picture = np.asarray(Image.open(tmp_path / "results.png").convert("L"))
    assert (picture < 128).sum() > 500
    assert results.read_result(tmp_path) is None
