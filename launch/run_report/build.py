"""The page of a run: its sections, its style and its script in one file that asks for nothing else."""

from collections.abc import Sequence
from pathlib import Path

from quell.configs.errors import ConfigError, MachineError
from quell.configs.support import logs
from quell.configs.support.atomic_files import write_atomically
from quell.configs.support.paths import resolve
from quell.launch.run_report import curves, noise, pictures, results, sections
from quell.launch.run_report.html import Html, element, section
from quell.launch.run_report.pictures import Picture, Pictures, Row
from quell.launch.run_report.run_facts import RunFacts

log = logs.get_logger(__name__)

LARGEST_BYTES = 3_000_000
SIDES_PX = (256, 160, 96, 64)
"""Longest sides of the images, the next one for a page that would be larger than LARGEST_BYTES."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Content security policy: a browser would refuse any request."""


def write_report(run: str | Path, output: Path | None = None, *, images: int = 2, diagnosis: bool = True) -> Path:
    """Write the page of a run.

    Args:
        run: The run folder.
        output: The HTML file; RUN/report.html by default.
        images: How many of the worst and of the best images are shown; 0 loads neither the model nor the data.
        diagnosis: Whether the run is diagnosed, which takes most of the time.

    Returns:
        The file.

    Raises:
        CheckpointError: It is not a run folder.
        ConfigError: The output is not an .html file.
        MachineError: The file cannot be written.
    """
    folder = resolve(run)
    file = output or folder / "report.html"
    if file.suffix != ".html":
        raise ConfigError(f"--output must name an .html file, got '{file.name}'")
    facts = RunFacts(folder)
    parts = _parts(facts, diagnosis=diagnosis)
    text = ""
    found, problem = _images(facts, images)
    for side_px in SIDES_PX:
        drawn = pictures.draw(found, facts.report, side_px) if found and facts.report else None
        text = _page(facts, parts, drawn, problem)
        if len(text.encode()) <= LARGEST_BYTES:
            break
        log.info("the page would be larger than %d MB: its images are reduced", LARGEST_BYTES // 10**6)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as error:
        raise MachineError(f"cannot write {file} ({error.strerror}): choose another --output") from error
    return file


def _images(facts: RunFacts, count: int) -> tuple[list[pictures.Images], str]:
    """The images to show, and why there are none."""
    if not count:
        return [], "No images were asked for."
    if facts.report is None:
        return [], facts.report_problem
    metric = results.main_metric(facts.report)
    return ([], "Nothing could be measured.") if metric is None else pictures.try_images(facts.report, metric, count)


def _parts(facts: RunFacts, *, diagnosis: bool) -> dict[str, tuple[str, Sequence[Html]]]:
    """Identifier -> title and content of every section but the images."""
    if facts.report is None:
        measured: Sequence[Html] = [element("p", facts.report_problem, class_="verdict problem")]
    else:
        measured = results.content(facts.report)
    checks, notes = sections.diagnose(facts) if diagnosis else ([], [])
    drawn = [curves.draw(panel) for panel in curves.panels(facts.events)]
    return {
        "results": ("Results", measured),
        "curves": ("Learning curves", [element("div", drawn, class_="curves")] if drawn else [element("p", "No log.")]),
        "images": ("Images", []),
        "noise": ("Noise of the training images", noise.content(facts.folder, facts.config)),
        "findings": ("Findings", sections.findings(checks, notes)),
        "configuration": ("Configuration", sections.configuration(facts)),
        "machine": ("Machine, code and command", sections.machine(facts)),
        "data": ("Data", sections.data(facts)),
        "checkpoints": ("Checkpoints", sections.checkpoints(facts)),
    }


def _page(facts: RunFacts, parts: dict[str, tuple[str, Sequence[Html]]], drawn: Pictures | None, problem: str) -> str:
    """The whole document."""
    shown = {**parts, "images": ("Images", _image_rows(drawn, problem))}
    links = [element("li", element("a", title, href=f"#{name}")) for name, (title, _) in shown.items()]
    here = Path(__file__).parent
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{facts.name} - Quell"),
        element("style", Html((here / "page.css").read_text(encoding="utf-8"))),
    )
    body = element(
        "body",
        sections.summary(facts),
        element("nav", element("ul", links), aria_label="Sections"),
        element("main", [section(name, title, *content) for name, (title, content) in shown.items()]),
        element("footer", "Written by quell report."),
        _dialog() if drawn else None,
        element("script", Html((here / "page.js").read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _image_rows(drawn: Pictures | None, problem: str) -> list[Html]:
    """The section of images."""
    if drawn is None:
        return [element("p", f"No images: {problem}")]
    bar = element("div", class_="bar", role="img", aria_label="colours from blue over white to red")
    about = (
        f"Error maps share one window: blue is {-drawn.error_window:.3g} or less, white 0, red "
        f"{drawn.error_window:.3g} or more, in stored units. Within a row, grey levels are the same. Choose an image "
        "to enlarge it."
    )
    return [element("p", about), bar, *(_row(row) for row in drawn.rows)]


def _row(row: Row) -> Html:
    heading = element("h3", element("span", row.place, class_="chip"), f" {row.key}, {row.field}")
    shown = [_picture(picture, row) for picture in row.pictures]
    note = element("p", ". ".join(filter(None, (row.scores, row.window))) + ".", class_="note")
    return element("div", heading, element("div", shown, class_="pictures"), note, class_="row")


def _picture(picture: Picture, row: Row) -> Html:
    alt = f"{picture.caption}, {row.place} image {row.key}, {row.field}"
    image = element("img", src=picture.uri, alt=alt, width=picture.width, height=picture.height)
    return element("figure", element("button", image, type="button"), element("figcaption", picture.caption))


def _dialog() -> Html:
    """Where images are enlarged."""
    close = element("form", element("button", "Close"), method="dialog")
    empty = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    return element("dialog", element("p"), element("img", src=empty, alt=""), close, aria_label="Enlarged image")
