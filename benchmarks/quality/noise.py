"""Restoration of a knee under noise as scanners make it: white, correlated, varying, and filtered in k-space.

Builds each kind of noise on the real knee (`shards.build knee_mese`), trains `cross_guided` on the noisy images alone,
and measures it on slices 15 to 17 beside NLM and BM3D. The baselines are told the true noise, which the training is
not, except in the row `blurred, given`. What is done already is not done again.

  python benchmarks/quality/noise.py --input knee_mese --output runs/noise
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.support import common
from quell.configs.support.paths import ROOT
from quell.launch.evaluation.paired_statistics import paired_difference

FIELDS = ("pd", "pdfs")
SETTINGS = (
    "pipeline.network={name: residual_unet, widths: [16, 32, 64], blocks: [1, 1, 2]}",
    "optimizer.lr=3e-3",
    "schedule.warmup_steps=20",
    "loop.ema_decay=0.98",
    "loop.threads=1",
    "tracking.tensorboard=false",
)
"""A small network: two to three minutes on one core."""


class Row(NamedTuple):
    """A row of the table."""

    data: str
    """Folder of the shards."""
    build: tuple[str, ...]
    """Arguments of the builder."""
    settings: tuple[str, ...] = ()
    """Further overrides of cross_guided.yaml."""


ROWS = {
    "white": Row("white", ()),
    "blurred, given": Row("blurred", ("--noise", "blurred"), ("pipeline.noise={given: DATA/truth_noise.npz}",)),
    "blurred, estimated": Row("blurred", ("--noise", "blurred")),
    "varying": Row("varying", ("--noise", "varying", "--sigma", "0.05", "--sigma-to", "0.2")),
    "k-space, complex": Row("kspace", ("--noise", "kspace")),
    "k-space, magnitude": Row("magnitude", ("--noise", "kspace", "--magnitude"), ("pipeline.magnitude=koay",)),
}


def run(*words: str) -> None:
    """Run a command of the project, and end with its error."""
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def measure(name: str, row: Row, source: str, folder: Path, steps: int) -> dict[str, object]:
    """Build, train and evaluate one row, as far as that is not done; returns its report."""
    data, trained = folder / "data" / row.data, folder / name.replace(", ", "-").replace(" ", "-")
    if not (data / "test" / "index.json").is_file():
        run("-m", "shards.build", "knee_mese", "--input", source, *row.build, "--output", str(data))
    settings = [setting.replace("DATA", str(data)) for setting in row.settings]
    lengths = [f"loop.max_steps={steps}", f"evaluation.every_steps={steps}", f"checkpoint.every_steps={steps}"]
    config, root = ROOT / "configs" / "cross_guided.yaml", f"data.root={data}"
    command = ["launch/train.py", "--config", str(config), "--run-dir", str(trained), root]
    run(*command, *SETTINGS, *lengths, *settings)
    report = trained / "report.json"
    if not report.is_file():
        baselines = [word for baseline in ("noisy", "nlm", "bm3d") for word in ("--baseline", baseline)]
        truth = data / "truth_noise.npz"
        told = ["--noise", str(truth)] if truth.is_file() else []
        run("launch/evaluate.py", "--run", str(trained), "--which", "last", *baselines, *told)
    content: dict[str, object] = json.loads(report.read_text())
    return content


def scores(report: dict[str, object], prefix: str, metric: str) -> list[float]:
    """A metric of every image and contrast; `prefix` is a baseline, or empty for the trained run."""
    rows: list[dict[str, float]] = report["rows"]  # type: ignore[assignment]
    middle = f"{prefix}/" if prefix else ""
    return [row[f"{field}/{middle}{metric}"] for row in rows for field in FIELDS]


def table_row(name: str, report: dict[str, object]) -> list[str]:
    """Mean PSNR and SSIM of every method, and the run's paired difference from BM3D."""
    cells = [name]
    for method in ("noisy", "nlm", "bm3d", ""):
        psnr, ssim = (scores(report, method, metric) for metric in ("psnr", "ssim"))
        cells.append(f"{sum(psnr) / len(psnr):.2f} / {sum(ssim) / len(ssim):.3f}")
    compared = paired_difference(scores(report, "", "psnr"), scores(report, "bm3d", "psnr"))
    return [*cells, f"{compared.median:+.2f} ({compared.low:+.2f} to {compared.high:+.2f})", f"{compared.p:.3f}"]


def main() -> None:
    """Measure the rows and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--input", required=True, help="the knee's .npz file or its folder, as for shards.build")
    parser.add_argument("--output", default="runs/noise", help="folder for shards, runs and reports")
    parser.add_argument("--steps", type=int, default=700, help="training steps of every run (default 700)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="the rows to measure")
    options = parser.parse_args()
    folder = (ROOT / options.output).resolve()
    source = str(Path(options.input).resolve())
    rows = [table_row(name, measure(name, ROWS[name], source, folder, options.steps)) for name in options.rows]
    common.print_table(
        ["noise", "noisy", "NLM", "BM3D", "cross_guided", "over BM3D, median (95 % interval)", "p"], rows
    )


if __name__ == "__main__":
    main()
