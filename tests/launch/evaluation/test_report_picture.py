"""The picture of an evaluation: its size, its text, and the region it magnifies."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from quell.launch.evaluation import report_picture
from quell.launch.evaluation.report_picture import ImageArray, Panel, Rectangle, Row


def scene(height: int, width: int, *, colour: bool = False) -> ImageArray:
    """A dark image with a bright square whose lower right corner is at 3/4 of both sides."""
    image = np.full((height, width, 3), 40, np.uint8)
    image[height // 2 : 3 * height // 4, width // 2 : 3 * width // 4] = (250, 120, 30) if colour else 220
    return image


def row_of(
    image: ImageArray, captions: tuple[str, ...] = ("noisy", "NLM", "restored", "clean"), *, sample: str = ""
) -> Row:
    panels = [Panel(caption, image, "" if caption == "clean" else "28.1 dB") for caption in captions]
    return Row("PD", panels, sample=sample)


@pytest.fixture
def written_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every text that is drawn during the test."""
    texts: list[str] = []
    draw_text = ImageDraw.ImageDraw.text

    def record(
        self: ImageDraw.ImageDraw, position: tuple[float, float], text: str, *args: object, **options: object
    ) -> None:
        texts.append(text)
        draw_text(self, position, text, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    return texts


def test_four_columns_are_about_1200_px_wide_and_every_panel_is_captioned(
    tmp_path: Path, written_texts: list[str]
) -> None:
    path = tmp_path / "new" / "report.png"
    report_picture.save([row_of(scene(128, 128)), row_of(scene(128, 128), sample="knee-7")], path)
    with Image.open(path) as image:
        assert 1150 <= image.width <= report_picture.TARGET_WIDTH_PX and image.mode == "RGB"
    assert written_texts.count("PD") == 2 and written_texts.count("28.1 dB") == 6 and "knee-7" in written_texts
    captions = ["noisy", "NLM", "restored", "clean"]
    assert [text for text in written_texts if text in captions] == captions * 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (32, 32), (40, 700), (700, 40), (1500, 1100)])
@pytest.mark.parametrize("columns", [1, 2, 4, 9])
def test_any_image_size_and_any_number_of_columns_fits(height: int, width: int, columns: int) -> None:
    sheet = report_picture.render([row_of(scene(height, width), tuple(f"column {n}" for n in range(columns)))])
    panel_px = report_picture.panel_width(columns)
    gaps_px = (columns - 1) * report_picture.GAP_PX
    text_px = 2 * (report_picture.MARGIN_PX + report_picture.LINE_PX)
    assert report_picture.MIN_PANEL_PX <= panel_px <= report_picture.MAX_PANEL_PX
    assert sheet.width == 2 * report_picture.MARGIN_PX + report_picture.TITLE_PX + columns * panel_px + gaps_px
    assert sheet.height <= text_px + report_picture.MAX_HEIGHT_TO_WIDTH * panel_px + 1


def test_rows_may_differ_in_image_size_and_in_number_of_columns() -> None:
    rows = [row_of(scene(32, 32)), row_of(scene(64, 200, colour=True), ("noisy", "restored"))]
    both, first = report_picture.render(rows), report_picture.render(rows[:1])
    assert both.width == first.width and both.height > first.height


def test_colours_are_kept_and_a_grey_image_has_none_but_the_frames() -> None:
    colours = np.asarray(report_picture.render([row_of(scene(128, 128, colour=True))])).reshape(-1, 3)
    assert (colours == (250, 120, 30)).all(axis=1).any()
    grey = np.asarray(report_picture.render([row_of(scene(128, 128))])).reshape(-1, 3).astype(int)
    coloured = grey[np.ptp(grey, axis=1) > 0]
    assert len(coloured) and (coloured == (0xFF, 0xB0, 0x00)).all()


def test_no_line_is_reserved_for_scores_where_there_are_none() -> None:
    image = scene(64, 64)
    without = Row("oct", [Panel("noisy", image), Panel("restored", image)])
    with_scores = Row("oct", [Panel("noisy", image, "20.0 dB"), Panel("restored", image)])
    extra_px = report_picture.render([with_scores]).height - report_picture.render([without]).height
    assert extra_px == report_picture.LINE_PX


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 9), (9, 3), (32, 32), (33, 100), (256, 128)])
def test_region_and_inset_lie_inside_the_image(height: int, width: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    edges = report_picture.edge_strength(noise)
    region = report_picture.busiest_region(edges)
    inset = report_picture.inset_corner(edges, region, max(min(height, width) // 2, 1))
    for box in (region, inset):
        assert box.top >= 0 and box.left >= 0 and box.side >= 1
        assert box.top + box.side <= height and box.left + box.side <= width


def test_the_region_is_where_the_edges_are_and_the_inset_where_they_are_not() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[58:72:2, 58:72] = 255
    edges = report_picture.edge_strength(image)
    region = report_picture.busiest_region(edges)
    assert region.top <= 58 and region.left <= 58 and region.top + region.side >= 72 <= region.left + region.side
    image[5:40, 5:40:4] = image[60:, 5:40:4] = 120
    assert report_picture.inset_corner(report_picture.edge_strength(image), region, 40) == Rectangle(0, 60, 40)
    assert report_picture.inset_corner(edges, Rectangle(5, 5, 20), 40) != Rectangle(0, 0, 40)


def test_an_image_without_edges_can_be_drawn() -> None:
    assert report_picture.busiest_region(np.zeros((40, 40))).side == report_picture.MIN_DETAIL_PX
    assert report_picture.render([row_of(np.full((40, 40, 3), 7, np.uint8))]).height > 40


def test_long_texts_are_elided_to_fit_their_panel(written_texts: list[str]) -> None:
    panels = [Panel("restored: " + "very " * 30 + "well", scene(64, 64)) for _ in range(7)]
    report_picture.render([Row("a field " * 20, panels, sample="a/long/key/" * 30)])
    assert all("..." in text for text in written_texts) and len(written_texts) == 9
    assert sum(text.startswith("rest") and text.endswith("well") for text in written_texts) == 7


def test_names_and_scores_have_their_usual_spelling() -> None:
    names = ("pd", "pdfs", "nlm", "bm3d", "noisy", "low_light")
    assert [report_picture.display_name(name) for name in names] == ["PD", "PDFS", "NLM", "BM3D", "noisy", "low_light"]
    assert report_picture.format_scores({"psnr": 28.06, "ssim": 0.8}) == "28.1 dB   SSIM 0.800"
    assert report_picture.format_scores({"psnr": 28.06}) == "28.1 dB"
    assert report_picture.format_scores({"ssim": float("nan")}) == ""
