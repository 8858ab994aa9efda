"""The page in a real browser without a network: nothing fails, nothing overflows, everything is readable."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.run_report.browser import CHROMIUM, Page, browser

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: .ci/run installs one"),
    pytest.mark.xdist_group("browser"),
]

CONTRAST = """
(() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const background = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const worst = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const colour = parse(node instanceof SVGElement ? getComputedStyle(node).fill : getComputedStyle(node).color);
    const [a, b] = [luminance(colour), luminance(background(node))].sort((x, y) => y - x);
    worst.push([(a + 0.05) / (b + 0.05), node.tagName + "." + (node.className.baseVal ?? node.className)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
})()
"""


@pytest.fixture(scope="module")
def open_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of a browser."""
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def url(reported_run: Path) -> str:
    """The page of the run, as a file."""
    return (reported_run / "report.html").as_uri()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_fails_overflows_or_is_too_pale(open_page: Page, url: str, width: int, dark: bool) -> None:
    open_page.open(url, width=width, dark=dark)
    assert open_page.complaints() == [] and open_page.requests() == [url]
    assert open_page.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "[...document.querySelectorAll('h1,h2,h3,p,dd,figure,nav a')].filter(n => n.getBoundingClientRect().right > "
    )
    assert open_page.evaluate(f"{outside}{width} + 0.5).map(n => n.outerHTML.slice(0, 80))") == []
    decoded = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0)))"
    assert all(open_page.evaluate(decoded)) and open_page.evaluate("document.images.length") > 20
    ratio, where = open_page.evaluate(CONTRAST)
    assert ratio >= 4.5, where  # WCAG 2.1, level AA
    page_colour = open_page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert page_colour == ("rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)")


def test_a_printed_page_is_cut_nowhere_and_has_no_navigation(open_page: Page, url: str) -> None:
    open_page.open(url, width=700, media="print", dark=True)  # A4 less its margins, at 96 px an inch
    assert open_page.evaluate("document.documentElement.scrollWidth") <= 700
    assert open_page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert open_page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_headings_do_not_skip_levels_and_images_have_texts(open_page: Page, url: str) -> None:
    open_page.open(url, width=1280)
    levels = open_page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert open_page.evaluate("[...document.querySelectorAll('main img')].every(i => i.alt.length > 5)")
    assert open_page.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert open_page.evaluate("[...document.querySelectorAll('svg polyline')].every(l => l.getTotalLength() > 0)")


def test_values_show_under_the_pointer_and_images_are_enlarged(open_page: Page, url: str) -> None:
    open_page.open(url, width=1280)
    point = (
        "const box = s.getBoundingClientRect(); s.dispatchEvent(new PointerEvent('pointermove', {clientX: box.right}))"
    )
    open_page.evaluate(f"{{ const s = document.querySelector('.curve svg'); {point} }}")
    assert open_page.evaluate("document.querySelector('.readout').textContent").startswith("step 4: loss_denoiser ")
    open_page.evaluate("document.querySelectorAll('.pictures button')[1].click()")
    assert open_page.evaluate("document.querySelector('dialog').open")
    said = "document.querySelector('dialog p').textContent"
    assert open_page.evaluate(said).startswith("restored, worst image")
    for kind in ("rawKeyDown", "keyUp"):
        open_page.send(
            "Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39
        )
    assert open_page.evaluate(said).startswith("clean, worst image")
    assert open_page.evaluate("document.querySelector('dialog img').naturalWidth") > 10
    assert open_page.complaints() == []


def test_the_page_can_be_read_without_javascript(open_page: Page, url: str) -> None:
    open_page.open(url, width=1280, script=False)
    tree = open_page.send("DOM.getDocument", depth=-1)
    assert "Learning curves" in str(tree) and "polyline" in str(tree)
    open_page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert open_page.complaints() == []
