"""The figures of docs/dual_domain.md, from the runs of the studies `guided` and `content`.

    python launch/experiments.py --study guided
    python launch/experiments.py --study content
    python benchmarks/figures/dual_domain.py

Rows that were not run are left out. Written: dual_domain_steps.png, dual_domain_images.png, dual_domain_curves.png.
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

from configs.errors import DataError
from configs.support.json_files import read_json_lines
from launch.data import loading, splits
from launch.evaluation import baselines, evaluator
from launch.inference import trained_model
from losses.metrics.psnr import psnr
from pipelines.common.dual_domain import instruments
from shards.reading.loaders import EvalLoader

ROOT = Path(__file__).resolve().parent.parent.parent
COMPARED = ("recommended", "alone", "fusion_latent", "fusion_skips", "fusion_attention", "own", "masked")
"""Rows of the study `guided` that learn from the same images with about the same computing time."""
USERS = ("content_l1", "target_skip", "source_skip")
"""Rows of the study `content` that are the user's own configurations."""
SHOWN_PX = 128
"""Side of the central part of a slice that is shown."""
GREY = 1.0
"""Stored value shown as white."""

Runs = dict[str, list[Path]]
Events = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> None:
    """Draw the three figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=Path, default=ROOT / "runs" / "studies", help="folder of the studies' runs")
    parser.add_argument("--guided", type=Path, help="run whose images are shown; default the recommended one's seed 1")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of the figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    guided, content = (rows_of(options.studies / name) for name in ("guided", "content"))
    if "recommended" not in guided:
        raise SystemExit(f"error: no run of the row recommended in {options.studies / 'guided'}: run the study first")
    save(steps(guided), options.output / "dual_domain_steps.png")
    shown = options.guided or guided["recommended"][0]
    save(
        pictures(shown, [run for row in USERS for run in content.get(row, [])]),
        options.output / "dual_domain_images.png",
    )
    if content:
        save(curves(content), options.output / "dual_domain_curves.png")


def rows_of(study: Path) -> Runs:
    """The finished runs of a study by row, seeds in order."""
    found: Runs = {}
    for file in sorted(study.glob("*/summary.json")):
        if trained_model.folder_of(file.parent).summary().get("status") == "finished":
            found.setdefault(file.parent.name.rsplit("-seed", 1)[0], []).append(file.parent)
    return found


def evaluations(run: Path) -> Events:
    """The validation events of a run."""
    return [event for event in read_json_lines(run / "metrics.jsonl") if event["event"] == "eval"]


def steps(rows: Runs) -> plt.Figure:
    """PSNR of the validation slice while training; a band from the worst to the best seed."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for number, row in enumerate(name for name in COMPARED if name in rows):
        found = [evaluations(run) for run in rows[row]]
        places = [event["step"] for event in found[0]]
        values = np.array([[event["psnr"] for event in events] for events in found])
        share = np.array(places) / places[-1]
        axis.plot(
            share,
            values.mean(0),
            marker="o",
            ms=3,
            color=f"C{number}",
            label=f"{row} ({places[-1]} steps" + (f", {len(values)} seeds)" if len(values) > 1 else ")"),
        )
        axis.fill_between(share, values.min(0), values.max(0), color=f"C{number}", alpha=0.2, lw=0)
    run = trained_model.load(rows["recommended"][0])
    for style, (name, level) in zip((":", "-.", "--"), levels(run).items(), strict=True):
        axis.axhline(level, color="0.4", ls=style, lw=1, label=name)
    axis.set(xlabel="share of the run's steps", ylabel="PSNR of the validation slice (dB)")
    axis.legend(fontsize=7)
    return figure


def levels(run: trained_model.TrainedModel) -> dict[str, float]:
    """PSNR of the baselines on the run's validation split, mean over slices and contrasts."""
    found: dict[str, list[float]] = {"noisy": [], "nlm": [], "bm3d": []}
    for batch in batches(run, run.config.data.val_split):
        for name in run.pipeline.outputs:
            noisy, clean = (
                evaluator.stored_image(batch[f][0], batch[f"{f}_scale"][0]) for f in (name, f"{name}_clean")
            )
            for baseline, values in found.items():
                restored = baselines.restore(noisy, baseline, data_range=1.0)  # type: ignore[arg-type]
                values.append(float(psnr(restored, clean, data_range=1.0)))
    return {name: float(np.mean(values)) for name, values in found.items()}


def middle(image: np.ndarray) -> np.ndarray:
    """The central part of an image (H, W)."""
    top, left = (max(size - SHOWN_PX, 0) // 2 for size in image.shape)
    return image[top : top + SHOWN_PX, left : left + SHOWN_PX]


def batches(run: trained_model.TrainedModel, split: str) -> list[dict[str, Any]]:
    """The slices of a split, each a batch."""
    settings = run.config.data
    shards = splits.open_split(settings, split)
    recipe = loading.evaluation_recipe(type(run.pipeline).needs(run.config.pipeline), settings, shards)
    with EvalLoader(shards, np.arange(len(shards)), recipe, 1) as found:
        return list(found)


def pictures(guided: Path, users: list[Path]) -> plt.Figure:
    """A part of the first test slice: noisy, NLM, BM3D, the user's best, cross-guided, clean, with their PSNR."""
    restored = restorations(guided)
    best: dict[str, tuple[str, np.ndarray]] = {}
    for name in restored:
        tried = [
            (psnr(image, restored[name]["clean"], data_range=1.0), f"{run.name.rsplit('-seed', 1)[0]}", image)
            for run in users
            for output, image in restorations(run, name).items()
        ]
        if tried:
            _, row, image = max(tried, key=lambda one: one[0])
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
            said = "" if title == "clean" else f"\n{psnr(image, images['clean'], data_range=1.0):.2f} dB"
            axis.imshow(middle(image), cmap="gray", vmin=0, vmax=GREY, interpolation="nearest")
            axis.set_title(f"{name}: {title}{said}" if title == "noisy" else f"{title}{said}", fontsize=8)
    return figure


@torch.no_grad()
def restorations(path: Path, contrast: str | None = None) -> Any:
    """Images of the first test slice in stored units: of each contrast with the baselines, or all outputs of one."""
    run = trained_model.load(path, which="last")
    batch = batches(run, run.config.data.test_split)[0]
    outputs = run.pipeline.restore(batch)
    if contrast is not None:
        return {
            name: evaluator.stored_image(image[0], batch[f"{contrast}_scale"][0])
            for name, image in outputs.items()
            if run.pipeline.outputs[name].noisy == contrast
        }
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, output in run.pipeline.outputs.items():
        if output.clean not in batch:
            raise DataError(f"{path}: its test split has no {output.clean}, which the figure compares with")
        scale = batch[f"{output.noisy}_scale"][0]
        noisy = evaluator.stored_image(batch[output.noisy][0], scale)
        found[output.noisy] = {
            **{rival: baselines.restore(noisy, rival, data_range=1.0) for rival in ("noisy", "nlm", "bm3d")},
            "restored": evaluator.stored_image(outputs[name][0], scale),
            "clean": evaluator.stored_image(batch[output.clean][0], batch[f"{output.clean}_scale"][0]),
        }
    return found


def curves(rows: Runs) -> plt.Figure:
    """How different the latents of different slices are, and how much of the target's noise is copied, over steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for number, (row, runs) in enumerate(rows.items()):
        events = evaluations(runs[0])
        places = [event["step"] for event in events]
        style = {"marker": "o", "ms": 3, "color": plt.get_cmap("tab20")(number % 20), "label": row}
        left.semilogy(places, [event["latent_spread"] for event in events], **style)
        right.plot(places, [event["leak_target"] for event in events], **style)
    left.axhline(instruments.COLLAPSE, color="k", ls="--", lw=1, label="called a collapse below")
    right.axhline(instruments.CORRELATED, color="k", ls="--", lw=1, label="called a leak above")
    left.set(xlabel="step", ylabel="distance of slices' latents over their size")
    right.set(xlabel="step", ylabel="correlation of the cross path's error\nwith the target's noise")
    for axis in (left, right):
        axis.legend(fontsize=7)
    return figure


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure and say where."""
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    with Image.open(path) as image:  # a palette of 128 colours is a third of the size
        image.convert("RGB").quantize(128).save(path, optimize=True)
    print(f"{path} ({path.stat().st_size // 1024} kB)", flush=True)


if __name__ == "__main__":
    main()
