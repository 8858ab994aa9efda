"""The picture of an evaluation: a row per noisy image, a panel per restoration of it, and one detail magnified.

This module only draws: it is given uint8 images and text. Which images are shown, with which scores, is decided in
launch/evaluation/baseline_evaluator.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from quell.configs.baseline_names import TITLES

ImageArray = NDArray[np.uint8]
"""(H, W, 3)."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DISPLAY_NAMES: Mapping[str, str] = {"pd": "PD", "pdfs": "PDFS", **{str(name): title for name, title in TITLES.items()}}
"""Spelling of fields and baselines in the picture; other names are shown as they are."""

TARGET_WIDTH_PX = 1200
MIN_PANEL_PX = 190
"""Panels share the target width equally, but never get narrower than this: many columns make the picture wider."""
MAX_PANEL_PX = 384
MAX_HEIGHT_TO_WIDTH = 1.4
"""Height of a panel over its width, at most; a taller image is shown narrower than its column."""

MARGIN_PX, GAP_PX = 14, 10
TITLE_PX = 34
"""Width of the row titles at the left, which are read from bottom to top."""
LINE_PX = 28
"""Height of the caption above a panel, and of the scores below it."""
CAPTION_FONT_PX, SCORES_FONT_PX, MIN_FONT_PX = 20, 17, 13

DETAIL_FRACTION = 0.18
"""Side of the magnified region, as a fraction of the image's shorter side."""
INSET_FRACTION = 0.46
"""Side of the inset that shows this region, as a fraction of the same."""
MIN_DETAIL_PX, FRAME_PX = 8, 2
SHOW_PIXELS_FROM = 4
"""Images enlarged by this factor or more show their pixels as squares; below it, they are interpolated."""

TEXT_COLOUR, MUTED_COLOUR, FRAME_COLOUR, BACKGROUND = "#1a1a1a", "#6b6b6b", "#ffb000", "#ffffff"


class Rectangle(NamedTuple):
    """A square of an image's pixels."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class Panel:
    """One image of a row, with a caption above it and its scores below it."""

    caption: str
    image: ImageArray
    scores: str = ""


@dataclass(frozen=True)
class Row:
    """The panels of one field of a sample. All images have the same size, and the same region is magnified in all."""

    title: str
    panels: Sequence[Panel]
    guide: int = -1
    """Index of the panel that the region is chosen in: where its edges are strongest."""
    sample: str = ""
    """Key of the sample, shown after the title in smaller print."""


def display_name(name: str) -> str:
    """The usual spelling of a field or baseline: PD for pd, NLM for nlm."""
    return DISPLAY_NAMES.get(name, name)


def format_scores(values: Mapping[str, float]) -> str:
    """`28.1 dB   SSIM 0.820` from `psnr` and `ssim`; whichever is missing or not finite is left out."""
    formats = {"psnr": "{:.1f} dB", "ssim": "SSIM {:.3f}"}
    return "   ".join(
        template.format(values[name]) for name, template in formats.items() if math.isfinite(values.get(name, math.nan))
    )


def save(rows: Sequence[Row], path: Path) -> None:
    """Write the picture as a PNG file and create its folder if necessary; OSError where that is impossible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    render(rows).save(path, optimize=True)


def render(rows: Sequence[Row]) -> Image.Image:
    """Draw the rows below one another, with panels of equal width."""
    columns = max(len(row.panels) for row in rows)
    panel_px = panel_width(columns)
    strips = [_render_row(row, panel_px) for row in rows]
    width = 2 * MARGIN_PX + TITLE_PX + columns * panel_px + (columns - 1) * GAP_PX
    height = 2 * MARGIN_PX + sum(strip.height for strip in strips) + (len(strips) - 1) * GAP_PX
    page = Image.new("RGB", (width, height), BACKGROUND)
    top = MARGIN_PX
    for strip in strips:
        page.paste(strip, (MARGIN_PX, top))
        top += strip.height + GAP_PX
    return page


def panel_width(columns: int) -> int:
    """Width in pixels of each panel of a picture with this many columns."""
    available_px = TARGET_WIDTH_PX - 2 * MARGIN_PX - TITLE_PX - (columns - 1) * GAP_PX
    return min(max(available_px // columns, MIN_PANEL_PX), MAX_PANEL_PX)


def edge_strength(image: ImageArray) -> NDArray[np.float64]:
    """Gradient magnitude of the mean over colours, (H, W)."""
    grey = image.mean(axis=-1)
    # np.gradient needs two pixels along an axis
    gradients = [np.gradient(grey, axis=axis) if grey.shape[axis] > 1 else np.zeros_like(grey) for axis in (0, 1)]
    return np.hypot(*gradients)


def busiest_region(edges: NDArray[np.float64]) -> Rectangle:
    """The square with the largest sum of edge strengths (H, W), off the border where the image is large enough."""
    side = min(max(round(DETAIL_FRACTION * min(edges.shape)), MIN_DETAIL_PX), *edges.shape)
    margin = min(side // 3, *((length - side) // 2 for length in edges.shape))
    sums = box_sums(edges, side)
    inner = sums[margin : sums.shape[0] - margin, margin : sums.shape[1] - margin]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    return Rectangle(int(row) + margin, int(column) + margin, side)


def box_sums(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Sums over every square with this side, (H - side + 1, W - side + 1), from a summed-area table."""
    table = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    return table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]


def inset_corner(edges: NDArray[np.float64], region: Rectangle, side: int) -> Rectangle:
    """The corner of the image where an inset with this side hides least: of the region first, then of the edges."""
    height, width = edges.shape

    def hidden(box: Rectangle) -> tuple[int, float]:
        rows = min(box.top + side, region.top + region.side) - max(box.top, region.top)
        columns = min(box.left + side, region.left + region.side) - max(box.left, region.left)
        overlap_px = max(rows, 0) * max(columns, 0)
        return overlap_px, float(edges[box.top : box.top + side, box.left : box.left + side].sum())

    return min((Rectangle(top, left, side) for top in (height - side, 0) for left in (width - side, 0)), key=hidden)


def _render_row(row: Row, panel_px: int) -> Image.Image:
    """One row: its title upright at the left, then each panel with its caption above and its scores below."""
    edges = edge_strength(row.panels[row.guide].image)
    region = busiest_region(edges)
    corner = inset_corner(edges, region, max(round(INSET_FRACTION * min(edges.shape)), 1))
    images = [_magnify_detail(panel.image, region, corner, panel_px) for panel in row.panels]
    image_px = max(image.height for image in images)
    scores_px = LINE_PX if any(panel.scores for panel in row.panels) else 0
    width = TITLE_PX + len(images) * panel_px + (len(images) - 1) * GAP_PX
    strip = Image.new("RGB", (width, LINE_PX + image_px + scores_px), BACKGROUND)
    strip.paste(_upright_title(row, image_px), (0, LINE_PX))
    for number, (panel, image) in enumerate(zip(row.panels, images, strict=True)):
        centre = TITLE_PX + number * (panel_px + GAP_PX) + panel_px // 2
        strip.paste(image, (centre - image.width // 2, LINE_PX))
        _write_centred(strip, panel.caption, CAPTION_FONT_PX, centre, 0, panel_px)
        _write_centred(strip, panel.scores, SCORES_FONT_PX, centre, LINE_PX + image_px, panel_px)
    return strip


def _magnify_detail(image: ImageArray, region: Rectangle, corner: Rectangle, panel_px: int) -> Image.Image:
    """Scale an image to its panel, frame the region, and show it magnified in the corner.

    The magnification is a whole number where the inset is large enough for one, so that all pixels look equally large.
    """
    height, width = image.shape[:2]
    scale = min(panel_px / width, MAX_HEIGHT_TO_WIDTH * panel_px / height)
    original = Image.fromarray(image)
    panel = _resize(original, max(round(width * scale), 1), max(round(height * scale), 1))
    top, left, side = (round(value * scale) for value in region)
    frame = (left - 1, top - 1, left + side, top + side)
    ImageDraw.Draw(panel).rectangle(frame, outline=FRAME_COLOUR, width=FRAME_PX)
    available_px = round(corner.side * scale)
    inset_px = available_px // region.side * region.side or available_px
    detail = original.crop((region.left, region.top, region.left + region.side, region.top + region.side))
    inset = ImageOps.expand(_resize(detail, inset_px, inset_px), FRAME_PX, FRAME_COLOUR)
    inset_left = 0 if corner.left == 0 else panel.width - inset.width
    inset_top = 0 if corner.top == 0 else panel.height - inset.height
    panel.paste(inset, (inset_left, inset_top))
    return panel


def _resize(image: Image.Image, width: int, height: int) -> Image.Image:
    """Resize an image: pixels become squares where it is much enlarged, else it is interpolated."""
    show_pixels = width >= SHOW_PIXELS_FROM * image.width
    return image.resize((width, height), Image.Resampling.NEAREST if show_pixels else Image.Resampling.LANCZOS)


def _write_centred(strip: Image.Image, text: str, font_px: int, centre: int, top: int, panel_px: int) -> None:
    """Write a line of text in the middle of a panel's width."""
    if text:
        fitted, font = _fit(text, font_px, panel_px)
        ImageDraw.Draw(strip).text((centre, top + LINE_PX // 2 - 1), fitted, TEXT_COLOUR, font, anchor="mm")


def _upright_title(row: Row, length: int) -> Image.Image:
    """A row's title and, in smaller print, its sample, read from bottom to top; (length, TITLE_PX) pixels."""
    line = Image.new("RGB", (length, TITLE_PX), BACKGROUND)
    pen = ImageDraw.Draw(line)
    title, title_font = _fit(row.title, CAPTION_FONT_PX, length // 2 if row.sample else length)
    title_px = title_font.getlength(title)
    space_px = 10 if row.sample else 0
    sample, sample_font = _fit(row.sample, MIN_FONT_PX, length - title_px - space_px)
    left = (length - title_px - space_px - sample_font.getlength(sample)) / 2
    pen.text((left, TITLE_PX // 2), title, TEXT_COLOUR, title_font, anchor="lm")
    pen.text((left + title_px + space_px, TITLE_PX // 2), sample, MUTED_COLOUR, sample_font, anchor="lm")
    return line.transpose(Image.Transpose.ROTATE_90)


def _fit(text: str, font_px: int, available_px: float) -> tuple[str, Font]:
    """Fit a text into the available width: in a smaller font and, if that is not enough, with its middle elided."""
    for size in range(font_px, MIN_FONT_PX - 1, -1):
        font = ImageFont.load_default(size)
        if font.getlength(text) <= available_px:
            return text, font
    kept, elided = len(text), text
    while kept and font.getlength(elided) > available_px:
        kept -= 1
        elided = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return elided, font
