"""The parts of the page: elements, curves and pictures."""

import base64
import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quell.launch.comparing.reports import read_report
from quell.launch.run_report import curves, results
from quell.launch.run_report.curves import Axis, Panel, Series, thinned
from quell.launch.run_report.html import Html, element, table
from quell.launch.run_report.pictures import data_uri, diverging_palette, reduced
from tests.launch.comparing.fake_reports import scores, write_report


def test_text_is_masked_and_escaped_and_markup_is_not() -> None:
    assert element("p", "<b>", Html("<i></i>"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<i></i></p>'
    assert element("pre", "at https://me:pw@host/x?key=1") == "<pre>at https://***@host/x?key=***</pre>"
    assert element("line", x1=1, hidden=True, class_="a", y1=None) == '<line x1="1" hidden class="a" />'
    assert "<td>&amp;</td>" in table([{"a<": "&"}], caption="c") and "a&lt;</th>" in table([{"a<": "&"}], caption="c")


def test_a_long_curve_keeps_its_extremes_and_its_end() -> None:
    values = [float(i % 7) for i in range(5000)]
    values[1234], values[2345], values[3000] = 99.0, -99.0, math.nan
    short = thinned(Series("a", list(range(5000)), values))
    assert len(short.steps) <= curves.MOST_POINTS and {99.0, -99.0} <= set(short.values)
    assert short.steps[-1] == 4999 and list(short.steps) == sorted(short.steps)


def test_axes_have_round_labels() -> None:
    assert Axis(0.0, 10.0, 0, 100).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Axis(1.0, 1.0, 0, 100).at(1.0) == 50
    logarithmic = Axis(0.001, 1.0, 0, 90, is_log=True)
    assert logarithmic.at(0.01) == 30 and all(0.001 <= tick <= 1 for tick in logarithmic.ticks())


def test_a_gap_in_a_curve_is_a_gap() -> None:
    drawn = curves.draw(Panel("Loss", [Series("loss", [1, 2, 3, 4, 5], [1.0, 2.0, math.nan, 3.0, 4.0])]))
    assert drawn.count("<polyline") == 2 and drawn.count("<circle") == 4
    assert "no finite values" in curves.draw(Panel("Loss", [Series("loss", [1], [math.nan])]))
    assert "logarithmic" in curves.draw(Panel("L", [Series("l", [1, 2], [1.0, 100.0])], may_be_log=True))


def test_zero_is_white_and_the_ends_are_blue_and_red() -> None:
    levels = np.array([[0, 128, 255]], np.uint8)
    file = io.BytesIO(base64.b64decode(data_uri(levels, diverging_palette()).split(",")[1]))
    blue, white, red = np.asarray(Image.open(file).convert("RGB"))[0].astype(int).tolist()
    assert blue == [33, 102, 172] and red == [178, 24, 43] and min(white) > 250


def test_images_are_reduced_by_whole_blocks() -> None:
    image = np.arange(35.0).reshape(5, 7)
    assert reduced(image, 7) is image
    assert reduced(image, 4) == pytest.approx(image[:4, :6].reshape(2, 2, 3, 2).mean(axis=(1, 3)))


@pytest.mark.parametrize("value", ["-inf", "inf", None])
def test_a_value_that_is_not_finite_is_left_out_of_the_results_and_counted(value: str | None, tmp_path: Path) -> None:
    psnr = scores(8, 31)
    run = write_report(tmp_path / "a", [value, *psnr[1:]], nlm=scores(8, 29))  # type: ignore[list-item]
    report = read_report(run / "report.json")
    text = "".join(map(str, results.content(report)))
    assert f"{sum(psnr[1:]) / 7:.2f} (" in text and "against NLM" in "".join(results.headline(report) or ())
    assert "(intervals: studentized bootstrap)" in text
    assert ("a failed on 1 images" if value == "-inf" else "Left out: 1 images") in text


def test_results_without_any_finite_value_are_dashes(tmp_path: Path) -> None:
    report = read_report(write_report(tmp_path / "a", ["inf"] * 7) / "report.json")  # type: ignore[list-item]
    assert results.headline(report) == ("PSNR (dB)", "-")
    assert "No image has a finite value" in "".join(map(str, results.content(report)))
