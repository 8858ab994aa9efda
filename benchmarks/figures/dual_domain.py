"""Draw the figures of docs/dual_domain.md from the runs of the studies `guided` and `content`.

    python launch/experiments.py --study guided
    python launch/experiments.py --study content
    python benchmarks/figures/dual_domain.py

Rows that were not run are left out. Writes dual_domain_steps.png, dual_domain_images.png and dual_domain_curves.png.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from quell.configs.baseline_names import Baseline
from quell.configs.errors import DataError
from quell.configs.support.json_files import read_json_lines
from quell.launch.data import loading, splits
from quell.launch.evaluation import baselines
from quell.launch.evaluation.measuring.stored_images import stored_image
from quell.launch.inference import trained_model
from quell.losses.metrics.psnr import psnr
from quell.pipelines.base import Batch
from quell.pipelines.common.dual_domain import instruments

ROOT = Path(__file__).resolve().parent.parent.parent
COMPARED_ROWS = ("recommended", "alone", "fusion_latent", "fusion_skips", "fusion_attention", "own", "masked")
"""Rows of the study `guided` that train on the same images for about the same time."""
USER_ROWS = ("content_l1", "target_skip", "source_skip")
"""Rows of the study `content` that are the user's own configurations."""
CROP_PX = 128
"""Side of the central part of a slice that is shown."""
WHITE = 1.0
"""Stored value shown as white."""

COMPARED_BASELINES: tuple[Baseline, ...] = ("noisy", "nlm", "bm3d")

Runs = dict[str, list[Path]]
Events = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> None:
    """Draw the three figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=Path, default=ROOT / "runs" / "studies", help="folder of the studies' runs")
    parser.add_argument("--guided", type=Path, help="run whose images are shown (default: recommended, first seed)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of the figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    guided, content = (rows_of(options.studies / name) for name in ("guided", "content"))
    if "recommended" not in guided:
        raise SystemExit(f"error: no run of the row recommended in {options.studies / 'guided'}: run the study first")
    save(plot_psnr(guided), options.output / "dual_domain_steps.png")
    user_runs = [run for row in USER_ROWS for run in content.get(row, [])]
    save(plot_images(options.guided or guided["recommended"][0], user_runs), options.output / "dual_domain_images.png")
    if content:
        save(plot_latents_and_leak(content), options.output / "dual_domain_curves.png")


def rows_of(study: Path) -> Runs:
    """The finished runs of a study by row, seeds in order."""
    rows: Runs = {}
    for file in sorted(study.glob("*/summary.json")):
        if trained_model.folder_of(file.parent).summary().get("status") == "finished":
            rows.setdefault(file.parent.name.rsplit("-seed", 1)[0], []).append(file.parent)
    return rows


def evaluations(run: Path) -> Events:
    """The validation events of a run."""
    return [event for event in read_json_lines(run / "metrics.jsonl") if event["event"] == "eval"]


def plot_psnr(rows: Runs) -> plt.Figure:
    """PSNR of the validation slice during training, with a band from the worst to the best seed."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for number, row in enumerate(name for name in COMPARED_ROWS if name in rows):
        events_by_seed = [evaluations(run) for run in rows[row]]
        steps = [event["step"] for event in events_by_seed[0]]
        values = np.array([[event["psnr"] for event in events] for events in events_by_seed])
        share = np.array(steps) / steps[-1]
        axis.plot(
            share,
            values.mean(0),
            marker="o",
            ms=3,
            color=f"C{number}",
            label=f"{row} ({steps[-1]} steps" + (f", {len(values)} seeds)" if len(values) > 1 else ")"),
        )
        axis.fill_between(share, values.min(0), values.max(0), color=f"C{number}", alpha=0.2, lw=0)
    run = trained_model.load(rows["recommended"][0])
    for style, (name, psnr_db) in zip((":", "-.", "--"), baseline_psnr(run).items(), strict=True):
        axis.axhline(psnr_db, color="0.4", ls=style, lw=1, label=name)
    axis.set(xlabel="share of the run's steps", ylabel="PSNR of the validation slice (dB)")
    axis.legend(fontsize=7)
    return figure


def baseline_psnr(run: trained_model.TrainedModel) -> dict[str, float]:
    """PSNR of the baselines on the run's validation split, mean over slices and contrasts."""
    values: dict[Baseline, list[float]] = {name: [] for name in COMPARED_BASELINES}
    for batch in batches(run, run.config.data.val_split):
        for name in run.pipeline.outputs:
            noisy, clean = (
                stored_image(batch[field][0], batch[f"{field}_scale"][0]) for field in (name, f"{name}_clean")
            )
            for baseline in COMPARED_BASELINES:
                restored = baselines.restore(noisy, baseline, data_range=1.0)
                values[baseline].append(float(psnr(restored, clean, data_range=1.0)))
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}


def centre_crop(image: np.ndarray) -> np.ndarray:
    """The central part of an image (H, W)."""
    top, left = (max(size - CROP_PX, 0) // 2 for size in image.shape)
    return image[top : top + CROP_PX, left : left + CROP_PX]


def batches(run: trained_model.TrainedModel, split: str) -> list[Batch]:
    """The slices of a split, each as a batch."""
    settings = run.config.data
    shards = splits.open_split(settings, split)
    recipe = loading.evaluation_recipe(type(run.pipeline).needs(run.config.pipeline), settings, shards)
    with loading.whole_images(shards, np.arange(len(shards)), recipe, 1) as slices:
        return list(slices)


def plot_images(guided: Path, user_runs: list[Path]) -> plt.Figure:
    """The centre of the first test slice: noisy, NLM, BM3D, the user's best, cross-guided, clean, with their PSNR."""
    restored = restorations(guided)
    best: dict[str, tuple[str, np.ndarray]] = {}
    for name in restored:
        candidates = [
            (psnr(image, restored[name]["clean"], data_range=1.0), run.name.rsplit("-seed", 1)[0], image)
            for run in user_runs
            for image in outputs_of(run, name).values()
        ]
        if candidates:
            _, row, image = max(candidates, key=lambda candidate: candidate[0])
            best[name] = (f"user's best\n({row})", image)
    titles = ["noisy", "nlm", "bm3d", "user's best", "cross-guided", "clean"]
    figure, axes = plt.subplots(len(restored), len(titles), figsize=(2 * len(titles), 2.5 * len(restored)))
    for line, (name, images) in zip(axes, restored.items(), strict=True):
        shown = [(title, images[title]) for title in titles[:3]]
        shown += [best[name]] if name in best else []
        shown += [("cross-guided", images["restored"]), ("clean", images["clean"])]
        for axis in line:
            axis.axis("off")
        for axis, (title, image) in zip(line, shown, strict=False):
            score = "" if title == "clean" else f"\n{psnr(image, images['clean'], data_range=1.0):.2f} dB"
            axis.imshow(centre_crop(image), cmap="gray", vmin=0, vmax=WHITE, interpolation="nearest")
            axis.set_title(f"{name}: {title}{score}" if title == "noisy" else f"{title}{score}", fontsize=8)
    return figure


@torch.no_grad()
def outputs_of(path: Path, contrast: str) -> dict[str, np.ndarray]:
    """Everything that a run restores from one contrast of the first test slice, in stored units, by output."""
    run = trained_model.load(path, which="last")
    batch = batches(run, run.config.data.test_split)[0]
    return {
        name: stored_image(image[0], batch[f"{contrast}_scale"][0])
        for name, image in run.pipeline.restore(batch).items()
        if run.pipeline.outputs[name].noisy == contrast
    }


@torch.no_grad()
def restorations(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The first test slice in stored units, by contrast: noisy, restored by baselines and by the run, and clean."""
    run = trained_model.load(path, which="last")
    batch = batches(run, run.config.data.test_split)[0]
    outputs = run.pipeline.restore(batch)
    restored: dict[str, dict[str, np.ndarray]] = {}
    for name, output in run.pipeline.outputs.items():
        if output.clean not in batch:
            raise DataError(f"{path}: the figure needs clean images: its test split is missing '{output.clean}'")
        scale = batch[f"{output.noisy}_scale"][0]
        noisy = stored_image(batch[output.noisy][0], scale)
        restored[output.noisy] = {
            **{baseline: baselines.restore(noisy, baseline, data_range=1.0) for baseline in COMPARED_BASELINES},
            "restored": stored_image(outputs[name][0], scale),
            "clean": stored_image(batch[output.clean][0], batch[f"{output.clean}_scale"][0]),
        }
    return restored


def plot_latents_and_leak(rows: Runs) -> plt.Figure:
    """Over steps: how much the latents of different slices differ, and how much of the target's noise is copied."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for number, (row, runs) in enumerate(rows.items()):
        events = evaluations(runs[0])
        steps = [event["step"] for event in events]
        style = {"marker": "o", "ms": 3, "color": plt.get_cmap("tab20")(number % 20), "label": row}
        left.semilogy(steps, [event["latent_spread"] for event in events], **style)
        right.plot(steps, [event["leak_target"] for event in events], **style)
    left.axhline(instruments.COLLAPSE, color="k", ls="--", lw=1, label="below: collapse")
    right.axhline(instruments.CORRELATED, color="k", ls="--", lw=1, label="above: leak")
    left.set(xlabel="step", ylabel="distance of slices' latents over their size")
    right.set(xlabel="step", ylabel="correlation of the cross path's error\nwith the target's noise")
    for axis in (left, right):
        axis.legend(fontsize=7)
    return figure


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a small PNG file, and print its path."""
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    with Image.open(path) as image:  # a palette of 128 colours takes a third of the space
        image.convert("RGB").quantize(128).save(path, optimize=True)
    print(f"{path} ({path.stat().st_size // 1024} kB)", flush=True)


if __name__ == "__main__":
    main()
