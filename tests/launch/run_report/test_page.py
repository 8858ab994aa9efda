"""The HTML page of a run: complete, self-contained, escaped, and honest about what is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quell.launch.capsule import files
from quell.launch.run_report import build, command
from tests.launch.run_report.conftest import NAME
from tests.support.small_runs import single_error

Output = pytest.CaptureFixture[str]

SECTIONS = ["results", "curves", "images", "noise", "findings", "configuration", "machine", "data", "checkpoints"]


class Structure(HTMLParser):
    """Tags with their attributes, and the text, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def page(reported_run: Path) -> str:
    """The text of the page."""
    return (reported_run / "report.html").read_text(encoding="utf-8")


def test_the_page_has_every_section_and_links_to_it(page: str) -> None:
    found = Structure(page)
    assert [section["id"] for section in found.of("section")] == SECTIONS
    assert [link["href"] for link in found.of("a")] == [f"#{name}" for name in SECTIONS]
    assert found.of("html") == [{"lang": "en"}] and len(found.of("h1")) == 1


def test_names_are_text_and_nothing_is_loaded(page: str) -> None:
    found = Structure(page)
    assert NAME in found.text and "<img src=x" not in page
    assert all((image["src"] or "").startswith("data:image/") for image in found.of("img"))
    assert all("src" not in script for script in found.of("script")) and not found.of("link")
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    assert any(
        (meta["content"] or "").startswith("default-src 'none'") for meta in found.of("meta") if "content" in meta
    )
    assert len(page.encode()) < build.LARGEST_BYTES


def test_what_the_page_says_of_a_run(page: str, reported_run: Path) -> None:
    text = Structure(page).text
    report = json.loads((reported_run / "report.json").read_text())
    assert report["fingerprint"] in text and "restored - clean" in text
    assert "seed" in text and "7" in text and "tracking.log_every" in text  # what was changed
    assert "NLM" in text and "difference in PSNR (dB)" in text
    assert "checks found a problem" in text and "step-00000004" in text and "best" in text
    alts = [image.get("alt") for image in Structure(page).of("img")]
    assert sum("restored - clean" in (alt or "") for alt in alts) == 6  # worst, middle and best of two contrasts
    curves = [
        json.loads(figure["data-curve"] or "") for figure in Structure(page).of("figure") if "data-curve" in figure
    ]
    loss = next(each for curve in curves for each in curve["series"] if each["name"] == "loss_denoiser")
    assert loss["steps"] == [1, 2, 3, 4] and all(isinstance(value, float) for value in loss["values"])


def test_marked_settings_are_those_that_differ_from_the_defaults(page: str) -> None:
    marked = re.findall(r"<mark>(.*?)\n</mark>", page, flags=re.DOTALL)
    assert "seed: 7" in marked and "loop.max_steps: 4" in marked
    assert not any(line.startswith("optimizer.weight_decay") for line in marked)


def copy(run: Path, folder: Path) -> Path:
    """A run folder to change."""
    return Path(shutil.copytree(run, folder / "copy", ignore=shutil.ignore_patterns("report.html")))


def test_a_capsule_is_shown(reported_run: Path, tmp_path: Path) -> None:
    run = copy(reported_run, tmp_path)
    shutil.rmtree(run / "capsule", ignore_errors=True)
    secrets = "+token = 'hf_abcdefghijklmnopqrstuvwxyz'\n+root: s3://me:pw@host/x\n"
    patch = files.keep(run, "changes", "patch", ("-old </details>\n+new\n" + secrets + "+x\n" * 298).encode())
    start = {
        "code": {"version": "9.9", "commit": "abc+", "changes": patch},
        "machine": {"cpu": "a processor", "memory_gib": 31.5, "devices": [{"name": "a device"}], "python": "3.99"},
        "command": {"words": ["quell", "train", "--run-dir", "a b"], "folder": "somewhere"},
        "data": {"train": {"path": "d/train", "samples": 26, "fingerprint": "1:x:y"}},
    }
    files.append(run, start)
    assert command.main([str(run), "--images", "0", "--no-diagnosis"]) == 0
    text = Structure((run / "report.html").read_text()).text
    for part in (
        "9.9",
        "abc+",
        "a processor",
        "31.5 GiB",
        "a device",
        "3.99",
        "quell train --run-dir 'a b'",
        "d/train",
    ):
        assert part in text
    assert "hf_abc" not in text and "me:pw" not in text and "+root: s3://***@host/x" in text
    assert "-old </details>" in text and f"102 more lines in capsule/{patch}" in text


def test_missing_parts_are_said_and_the_rest_is_shown(reported_run: Path, tmp_path: Path, capsys: Output) -> None:
    run = copy(reported_run, tmp_path)
    content = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**content, "data": str(tmp_path / "gone")}))
    (run / "metrics.jsonl").write_text("")
    assert command.main([str(run)]) == 0
    text = Structure((run / "report.html").read_text()).text
    assert "No images: " in text and "gone" in text and "No log." in text and "NLM" in text
    (run / "report.json").unlink()
    assert command.main([str(run), "--no-diagnosis", "--output", str(tmp_path / "x" / "page.html")]) == 0
    assert "has not been evaluated" in (tmp_path / "x" / "page.html").read_text()
    capsys.readouterr()


def test_images_are_those_of_the_checkpoint_that_was_measured_or_none(reported_run: Path, tmp_path: Path) -> None:
    run = copy(reported_run, tmp_path)
    content = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**content, "checkpoint": "step-00000002"}))
    assert command.main([str(run), "--no-diagnosis"]) == 0
    text = Structure((run / "report.html").read_text()).text
    assert "No images: checkpoint step-00000002, which was measured, is not kept any more" in text
    assert "restored - clean" not in text


def test_a_page_that_would_be_too_large_has_smaller_images(
    reported_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "SIDES_PX", (24, 12))
    monkeypatch.setattr(build, "LARGEST_BYTES", 1000)
    file = build.write_report(reported_run, tmp_path / "small.html", images=1, diagnosis=False)
    sizes = {
        image["width"] for image in Structure(file.read_text()).of("img") if "restored" in (image.get("alt") or "")
    }
    assert sizes == {"12"}


def test_wrong_arguments_are_refused_in_a_sentence(tmp_path: Path, capsys: Output) -> None:
    assert command.main([str(tmp_path)]) == 5
    assert "is not a run folder" in single_error(capsys.readouterr().err)
    assert command.main([str(tmp_path), "--output", "page.txt"]) == 2
    assert "must name an .html file" in single_error(capsys.readouterr().err)
