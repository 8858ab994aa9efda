"""Methods on real images beside NLM and BM3D: grey images with Gaussian noise, photographs with a camera's own, OCT.

Builds the shards, trains each row on one thread, and measures it on the test images. NLM and BM3D are measured with
strengths chosen on training images ("tuned"), BM3D on made-up noise also with the true noise ("told"). Differences
are paired image by image: the median and its 95 % interval. What is done already is not done again: give another
--output to repeat it.

  python benchmarks/quality/methods.py --data ../shared/data --output runs/methods [--rows NAME ...]
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.support import common
from benchmarks.support.quality_runs import BASELINES, Report, difference, evaluate, run, train
from quell.configs.support.paths import ROOT
from quell.losses.noise.model import FieldNoise, NoiseModel

GREY_SIGMA = 25
"""Of the made-up noise, where white is 255."""
TRAINING_CROPS = 340
"""Of DnCNN's 400 training images; the others are measured, and lie beside Set12."""
SUBJECTS = {"train": (1, 4, 5, 7, 14), "val": (9, 12, 16, 17), "test": (2, 10, 13)}
"""Of the OCT images. The averages of those for validation show another place."""
TUNED_ON = 2
"""Training images on which the strengths of NLM and BM3D are chosen."""

SCHEDULE = (
    "schedule={name: cosine, per: step, warmup_steps: 100}",
    "loop.epochs=null",
    "loop.channels_last=true",
    "loop.clip_norm=1.0",
    "evaluation.every_epochs=null",
    "evaluation.limit=2",
    "data.normalise=none",
    "data.rotate=true",
    "optimizer={name: adamw, lr: 1e-3, betas: [0.9, 0.99]}",
)
GREY = (
    *SCHEDULE,
    "pipeline.network={name: residual_unet}",
    "data.crop=48",
    "data.batch_size=8",
    "loop.ema_decay=0.999",
)


class Row(NamedTuple):
    """A row of the table."""

    data: str
    config: str
    settings: tuple[str, ...]
    steps: int
    groups: tuple[str, ...] = ("",)
    """How the names of the test images begin that are averaged together."""
    metrics: tuple[str, ...] = ("psnr", "ssim")


ROWS = {
    "grey, supervised": Row(
        "grey",
        "supervised",
        (*GREY, f"pipeline.fresh_sigma={GREY_SIGMA / 255:.8f}", "pipeline.self_ensemble=true"),
        14_000,
        ("test-set12", "test-crop"),
    ),
    "grey, R2R": Row(
        "grey", "r2r", (*GREY, "pipeline.passes=16", "pipeline.self_ensemble=true"), 14_000, ("test-set12", "test-crop")
    ),
    "photographs, supervised": Row(
        "photographs",
        "supervised",
        (
            *SCHEDULE,
            "pipeline.network={name: residual_unet}",
            "pipeline.self_ensemble=true",
            "data.crop=64",
            "data.batch_size=4",
            "loop.ema_decay=0.998",
        ),
        3_000,
    ),
    "OCT, supervised": Row(
        "oct",
        "supervised",
        (
            *SCHEDULE,
            "pipeline.network={name: residual_unet, widths: [24, 48, 96, 96], blocks: [1, 1, 2, 2]}",
            "pipeline.self_ensemble=true",
            "data.crop=96",
            "data.batch_size=4",
            "data.rotate=false",
            "data.flip=true",
            "loop.ema_decay=0.998",
        ),
        4_000,
        metrics=("psnr", "ssim", "epi", "epi_v"),
    ),
}


def build_grey(source: Path, output: Path) -> None:
    """Training crops with Gaussian noise; for testing Set12, and the crops that are left over."""
    chosen = output.parent / f"{output.name}-files"
    crops = sorted((source / "gray_clean" / "train400").iterdir())
    parts = {
        "train": {file.name: file for file in crops[:TRAINING_CROPS]},
        "test": {f"crop-{file.name}": file for file in crops[TRAINING_CROPS:]}
        | {f"set12-{file.name}": file for file in (source / "gray_clean" / "Set12").iterdir()},
    }
    for part, files in parts.items():
        (chosen / part).mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            (chosen / part / name).unlink(missing_ok=True)
            (chosen / part / name).symlink_to(file)
    folders = ("--train", str(chosen / "train"), "--test", str(chosen / "test"))
    run("-m", "shards.build", "awgn", *folders, "--sigma", str(GREY_SIGMA), "--output", str(output))


def split_file(output: Path, parts: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Write which part of the shards each group goes to, beside them; the option of the builder that reads it."""
    file = output.parent / f"{output.name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{group},{part}\n" for group, part in parts), encoding="utf-8")
    return "--split-file", str(file)


def build_photographs(source: Path, output: Path) -> None:
    """PolyU's photographs, grey: every second by name for training or validation, the others for testing."""
    polyu = source / "real_noise_polyu"
    names = sorted(file.name.removesuffix("_real.JPG") for file in polyu.glob("*_real.JPG"))
    halves = ["test" if index % 2 else "val" if index % 16 == 0 else "train" for index in range(len(names))]
    fields = ("--field", f"noisy={polyu}/*_real.JPG", "--field", f"clean={polyu}/*_mean.JPG")
    matched = ("--match", "(.+)_(?:real|mean)$", *split_file(output, zip(names, halves, strict=True)), "--grey")
    run("-m", "shards.build", "folder", *fields, *matched, "--output", str(output))


def build_oct(source: Path, output: Path) -> None:
    """OCT frames and their averages."""
    parts = [(f"subject-{name}", part) for part, names in SUBJECTS.items() for name in names]
    frames = ("--frames", "separate", "--register", "12", *split_file(output, parts))
    run("-m", "shards.build", "oct", "--input", str(source / "oct_duke_sdoct"), *frames, "--output", str(output))


BUILDERS: dict[str, Callable[[Path, Path], None]] = {
    "grey": build_grey, "photographs": build_photographs, "oct": build_oct,
}  # fmt: skip


def scores(report: Report, prefix: str, metric: str, group: str) -> list[float]:
    """A metric of the images of a group; `prefix` is a baseline, or empty for the trained run."""
    rows: list[dict[str, float]] = report["rows"]  # type: ignore[assignment]
    name = f"noisy/{prefix}/{metric}" if prefix else f"restored/{metric}"
    return [row[name] for row in rows if str(row["key"]).startswith(group)]


def measure(name: str, folder: Path, options: argparse.Namespace) -> list[list[str]]:
    """Build, train and evaluate one row, as far as that is not done; a line of the table for each group."""
    row = ROWS[name]
    data, trained = folder / "data" / row.data, folder / name.replace(", ", "-")
    if not (data / "test" / "index.json").is_file():
        BUILDERS[row.data](Path(options.data).resolve(), data)
    minutes = train(trained, row.config, data, row.settings, options.steps or row.steps)
    chosen = ("--metrics", *row.metrics)
    own = evaluate(trained, trained / "report.json", options.limit, *chosen)
    tuning = ("--tune", str(TUNED_ON))
    tuned = evaluate(trained, folder / "data" / f"{row.data}_tuned.json", options.limit, *chosen, *BASELINES, *tuning)
    lines = []
    for group in row.groups:
        if not scores(own, "", "psnr", group):  # beyond --limit
            continue
        for baseline, title in (("noisy", "noisy"), ("nlm", "NLM, tuned"), ("bm3d", "BM3D, tuned")):
            lines.append(line(row, name, title, tuned, baseline, group))
        if row.data == "grey":
            lines.append(line(row, name, "BM3D, told", told(folder, trained, data, options), "bm3d", group))
        better = difference(scores(own, "", "psnr", group), scores(tuned, "bm3d", "psnr", group))
        lines.append([*line(row, name, name, own, "", group)[:-2], better, f"{minutes:.1f}"])
    return lines


def told(folder: Path, trained: Path, data: Path, options: argparse.Namespace) -> Report:
    """The report of BM3D that knows the made-up noise."""
    model = folder / "data" / "grey_noise.npz"
    if not model.is_file():
        NoiseModel({"noisy": FieldNoise(GREY_SIGMA / 255)}).save(model)
    output = folder / "data" / f"{data.name}_told.json"
    return evaluate(trained, output, options.limit, "--baseline", "bm3d", "--noise", str(model))


def line(row: Row, name: str, title: str, report: Report, prefix: str, group: str) -> list[str]:
    """The means of one method over a group."""
    cells = []
    for metric in ("psnr", "ssim", "epi", "epi_v"):
        is_measured = metric in row.metrics and (title != "BM3D, told" or metric in ("psnr", "ssim"))
        values = scores(report, prefix, metric, group) if is_measured else []
        cells.append(f"{sum(values) / len(values):.{2 if metric == 'psnr' else 3}f}" if values else "")
    return [name.partition(",")[0] + (f", {group}" if group else ""), title, *cells, "", ""]


def main() -> None:
    """Measure the rows and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with gray_clean, real_noise_polyu and oct_duke_sdoct")
    parser.add_argument("--output", default="runs/methods", help="folder for shards, runs and reports")
    parser.add_argument("--steps", type=int, help="training steps of every run (default: those of each row)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="the rows to measure")
    parser.add_argument("--limit", type=int, help="test images to measure (default: all)")
    options = parser.parse_args()
    folder = (ROOT / options.output).resolve()
    lines = [cells for name in options.rows for cells in measure(name, folder, options)]
    titles = ["images", "method", "PSNR", "SSIM", "EPI", "EPI, across layers", "over BM3D, tuned", "CPU minutes"]
    common.print_table(titles, lines)


if __name__ == "__main__":
    main()
