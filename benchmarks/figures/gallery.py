"""Draw the pictures of docs/gallery.md from the runs of the study `gallery`.

    python launch/experiments.py --study gallery
    python benchmarks/figures/gallery.py

Runs that are missing are left out, and named. Writes docs/gallery/NAME.webp, each below 150 kB.
"""

import argparse
import sys
import tempfile
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from PIL import Image

from quell.configs import studies
from quell.launch import evaluate

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_WIDTH_PX, QUALITY = 1000, 80
SAMPLES = 1
"""Samples shown of each run; of two contrasts, both."""


def main(arguments: list[str] | None = None) -> None:
    """Draw a picture of every run of the study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "studies" / "gallery", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "gallery", help="folder of the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in studies.load("gallery").runs:
        run = options.runs / f"{name}-seed1"
        if not (run / "summary.json").exists():
            print(f"{name}: no run in {run}")
            continue
        picture = options.output / f"{name}.webp"
        draw(run, picture)
        print(f"{picture.name}: {picture.stat().st_size / 1000:.0f} kB")


def draw(run: Path, picture: Path) -> None:
    """Evaluate a run next to the noisy image and NLM, and keep the picture of its first test sample."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["--run", run, "--baseline", "noisy", "--baseline", "nlm", "--limit", SAMPLES, "--pictures", SAMPLES]
        code = evaluate.main([str(word) for word in (*words, "--output", report, "--quiet")])
        if code:
            raise SystemExit(code)
        with Image.open(report.with_suffix(".png")) as image:
            image.thumbnail((MAX_WIDTH_PX, MAX_WIDTH_PX), Image.Resampling.LANCZOS)
            image.convert("RGB").save(picture, quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
