"""The picture of the README: the first test image of the quickstart, both contrasts, with PSNR and a magnified detail.

make train
python benchmarks/figures/quickstart.py
"""

import argparse
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from configs.support.paths import ROOT
from launch.data import loading, splits
from launch.evaluation import baselines
from launch.evaluation.evaluator import stored_image
from launch.inference import trained_model
from losses.metrics.psnr import psnr

DETAIL_PX = 28
"""Side of the magnified square, which is centred on the joint."""
MAGNIFIED = 0.46
"""Share of the picture's side that the magnified detail covers."""

Pictures = dict[str, NDArray[np.float64]]


def main(arguments: list[str] | None = None) -> None:
    """Draw docs/quickstart.png."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quickstart", help="run folder of the quickstart")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "quickstart.png", help="file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows, data_range = restorations(options.run)
    figure = draw(rows, data_range)
    figure.savefig(options.output, dpi=100, metadata={"Software": None})
    with Image.open(options.output) as image:  # a palette of 128 greys is a third of the size
        image.convert("RGB").quantize(128).save(options.output, optimize=True)
    print(f"{options.output} ({options.output.stat().st_size // 1024} kB)")


@torch.no_grad()
def restorations(run: Path) -> tuple[dict[str, Pictures], float]:
    """Contrast -> noisy, NLM, restored and clean image (H, W) in stored units; and the data range of the shards."""
    model = trained_model.load(run)
    settings = model.config.data
    shards = splits.open_split(settings, settings.test_split)
    needs = type(model.pipeline).needs(model.config.pipeline)
    (batch,) = loading.load_whole_images(shards, needs, settings, 1)
    data_range = splits.data_range(shards)
    rows = {}
    for (name, output), restored in zip(
        model.pipeline.outputs.items(), model.pipeline.restore(batch).values(), strict=True
    ):
        scale = batch[f"{output.noisy}_scale"][0]
        noisy = stored_image(batch[output.noisy][0], scale)
        rows[name] = {
            "noisy": noisy,
            "non-local means": baselines.restore(noisy, "nlm", data_range=data_range),
            "restored": stored_image(restored[0], scale),
            "clean": stored_image(batch[output.clean][0], batch[f"{output.clean}_scale"][0]),
        }
    return rows, data_range


def draw(rows: dict[str, Pictures], data_range: float) -> plt.Figure:
    """One row per contrast, with the PSNR above each picture and the same detail magnified in its corner."""
    columns = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), columns, figsize=(2.5 * columns, 2.75 * len(rows)), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        clean = pictures["clean"]
        for axis, (title, image) in zip(line, pictures.items(), strict=True):
            decibel = "" if title == "clean" else f"  {psnr(image, clean, data_range=data_range):.1f} dB"
            axis.set_title(f"{name.upper()} {title}{decibel}", fontsize=9)
            show_with_detail(axis, image, vmax=float(clean.max()))
    figure.tight_layout(pad=0.4)
    return figure


def show_with_detail(axis: plt.Axes, image: NDArray[np.float64], *, vmax: float) -> None:
    """Show an image (H, W), mark its central square, and repeat that square magnified."""
    top, left = ((side - DETAIL_PX) // 2 for side in image.shape)
    axis.imshow(image, cmap="gray", vmin=0, vmax=vmax, interpolation="nearest")
    axis.add_patch(Rectangle((left, top), DETAIL_PX, DETAIL_PX, fill=False, edgecolor="tab:orange", linewidth=1))
    axis.axis("off")
    inset = axis.inset_axes((1 - MAGNIFIED, 0, MAGNIFIED, MAGNIFIED))
    detail = image[top : top + DETAIL_PX, left : left + DETAIL_PX]
    inset.imshow(detail, cmap="gray", vmin=0, vmax=vmax, interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    for edge in inset.spines.values():
        edge.set_color("tab:orange")


if __name__ == "__main__":
    main()
