"""Restoration of a knee under noise as scanners make it: white, correlated, varying, and filtered in k-space.

Builds each kind of noise on the real knee (`shards.build knee_mese`), trains `cross_guided` on the noisy images alone,
and measures it on slices 15 to 17 beside NLM and BM3D. Both are told the true noise, which the training is not, except
in the row `blurred, given`. BM3D is measured once more as it is without that: told no spectrum and no map, with its
strength chosen on clean training images ("BM3D tuned"). The last rows are the dual-domain framework under the same
noise: its best original configuration, and its two encoders trained as cross_guided is. What is done already is not
done again: give another --output to repeat it, or to measure it with other steps or another network.

  python benchmarks/quality/noise.py --input knee_mese --output runs/noise
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from benchmarks.support import common
from benchmarks.support.quality_runs import BASELINES, Report, difference, evaluate, run, train
from quell.configs.support.paths import ROOT
from quell.losses.noise.model import FieldNoise, NoiseModel

FIELDS = ("pd", "pdfs")
STEPS = 1000
SMALL = (
    "pipeline.network={name: residual_unet, widths: [16, 32, 64], blocks: [1, 1, 2]}",
    "optimizer.lr=3e-3",
    "schedule.warmup_steps=20",
    "loop.ema_decay=0.98",
)
"""A network that takes a third of the time of that of cross_guided.yaml."""
DUAL_DOMAIN = (
    "pipeline.encoder_features=[16,32,64]",
    "pipeline.decoder_features=[64,32,16]",
    "pipeline.latent_channels=64",
    "data.crop=64",
    "optimizer.lr=1.5e-3",
    "schedule={name: cosine, per: step}",
    "loop.epochs=null",
    "evaluation.every_epochs=null",
)
"""The size of the first table of docs/dual_domain.md."""
RELEARN = "pipeline.relearn_from=HALF"
TUNED_ON = 1
"""Training samples, of two images each, on which the strength of BM3D is chosen."""


class Row(NamedTuple):
    """A row of the table."""

    data: str
    """Folder of the shards."""
    build: tuple[str, ...]
    """Arguments of the builder."""
    settings: tuple[str, ...] = ()
    """Further overrides of the configuration; DATA is the folder of the shards, HALF is half of the steps."""
    steps: int = STEPS
    """Training steps, unless the command line says otherwise."""
    config: str = "cross_guided"
    path: str = ""
    """Of the outputs of a dual-domain run, those measured."""


class Measured(NamedTuple):
    """What is known of a row."""

    report: Report
    """Of the run and the baselines, which are told the true noise."""
    tuned: Report
    """Of BM3D tuned on training images, and told neither spectrum nor map."""
    cpu_minutes: float
    """Processor time of the training, its start included."""


ROWS = {
    "white": Row("white", ()),
    "blurred, given": Row(
        "blurred", ("--noise", "blurred"), ("pipeline.noise={given: DATA/truth_noise.npz}",), steps=1500
    ),
    "blurred, estimated": Row("blurred", ("--noise", "blurred"), steps=1500),
    "varying": Row("varying", ("--noise", "varying", "--sigma", "0.05", "--sigma-to", "0.2"), (RELEARN,)),
    "k-space, complex": Row("kspace", ("--noise", "kspace"), steps=3000),
    "k-space, magnitude": Row("magnitude", ("--noise", "kspace", "--magnitude"), ("pipeline.magnitude=koay", RELEARN)),
    "blurred, dual-domain": Row(
        "blurred", ("--noise", "blurred"), DUAL_DOMAIN, steps=400, config="cross_baseline", path="_same"
    ),
    "blurred, two encoders": Row(
        "blurred",
        ("--noise", "blurred"),
        ("pipeline.network.name=fusion_unet", "pipeline.network.fusion=attention"),
        steps=750,
    ),
}


def measure(name: str, folder: Path, options: argparse.Namespace) -> Measured:
    """Build, train and evaluate one row, as far as that is not done."""
    row, source = ROWS[name], str(Path(options.input).resolve())
    network = () if options.full or row.config != "cross_guided" else SMALL
    data, trained = folder / "data" / row.data, folder / name.replace(", ", "-").replace(" ", "-")
    if not (data / "test" / "index.json").is_file():
        run("-m", "shards.build", "knee_mese", "--input", source, *row.build, "--output", str(data))
    steps = options.steps or row.steps
    own = [setting.replace("DATA", str(data)).replace("HALF", str(steps // 2)) for setting in row.settings]
    minutes = train(trained, row.config, data, [*network, *own], steps)
    truth = data / "truth_noise.npz"
    told = ("--noise", str(truth)) if truth.is_file() else ()
    report = evaluate(trained, trained / "report.json", options.limit, *BASELINES, *told)
    white = folder / "white_noise.npz"
    if not white.is_file():
        NoiseModel(dict.fromkeys(FIELDS, FieldNoise(1.0))).save(white)
    untold = ("--baseline", "bm3d", "--noise", str(white), "--tune", str(TUNED_ON))
    return Measured(
        report, evaluate(trained, folder / "data" / f"{row.data}_tuned.json", options.limit, *untold), minutes
    )


def scores(report: Report, prefix: str, metric: str, path: str = "") -> list[float]:
    """A metric of every image and contrast; `prefix` is a baseline, or empty for the trained run and its `path`."""
    rows: list[dict[str, float]] = report["rows"]  # type: ignore[assignment]
    middle = f"/{prefix}/" if prefix else f"{path}/"
    return [row[f"{field}{middle}{metric}"] for row in rows for field in FIELDS]


def table_row(name: str, measured: Measured) -> list[str]:
    """Mean PSNR and SSIM of every method, the run's paired differences from BM3D, and its processor time."""
    report, tuned, path = measured.report, measured.tuned, ROWS[name].path
    cells = [name]
    for source, method in ((report, "noisy"), (report, "nlm"), (tuned, "bm3d"), (report, "bm3d"), (report, "")):
        psnr, ssim = (scores(source, method, metric, path) for metric in ("psnr", "ssim"))
        cells.append(f"{sum(psnr) / len(psnr):.2f} / {sum(ssim) / len(ssim):.3f}")
    for source in (tuned, report):
        cells.append(difference(scores(report, "", "psnr", path), scores(source, "bm3d", "psnr")))
    return [*cells, f"{measured.cpu_minutes:.1f}"]


def main() -> None:
    """Measure the rows and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--input", required=True, help="the knee's .npz file or its folder, as for shards.build")
    parser.add_argument("--output", default="runs/noise", help="folder for shards, runs and reports")
    parser.add_argument("--steps", type=int, help="training steps of every run (default: those of each row)")
    parser.add_argument("--full", action="store_true", help="train the network of cross_guided.yaml, not a small one")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="the rows to measure")
    parser.add_argument("--limit", type=int, help="test samples to measure (default: all)")
    options = parser.parse_args()
    folder = (ROOT / options.output).resolve()
    rows = [table_row(name, measure(name, folder, options)) for name in options.rows]
    titles = ["noise", "noisy", "NLM", "BM3D tuned", "BM3D told", "trained", "over BM3D tuned", "over BM3D told"]
    common.print_table([*titles, "CPU minutes"], rows)


if __name__ == "__main__":
    main()
