"""Images of the page: noisy, restored, reference and error of the worst, middle and best samples of a report."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quell.configs.errors import CheckpointError, QuellError
from quell.configs.metric_names import cost
from quell.launch.comparing.reports import RunReport
from quell.launch.data import loading
from quell.launch.evaluation.measuring.stored_images import reference_field, stored_image
from quell.launch.inference import trained_model
from quell.shards.reading.shard_set import ShardSet

WINDOW = (0.5, 99.5)
"""Percentiles of the reference between which grey values are shown."""
ERROR_PERCENTILE = 99.0


@dataclass(frozen=True)
class Picture:
    """One image as the page shows it."""

    caption: str
    uri: str
    """`data:image/png;base64,...`."""
    width: int
    height: int
    is_error: bool = False


@dataclass(frozen=True)
class Row:
    """A restored field of a sample."""

    place: str
    """worst, middle or best."""
    key: str
    field: str
    scores: str
    window: str
    """Which values are black and white."""
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Images:
    """A field of a sample in stored units."""

    place: str
    key: str
    field: str
    noisy: NDArray[np.float64]
    restored: NDArray[np.float64]
    reference: NDArray[np.float64] | None
    reference_name: str


@dataclass(frozen=True)
class Pictures:
    """The rows, and the window that all their error maps share."""

    rows: tuple[Row, ...]
    error_window: float


def chosen_samples(report: RunReport, metric: str, each: int) -> dict[str, str]:
    """Sample -> worst, middle or best, by the mean of a metric over the restored fields."""
    tables = [values[metric] for values in report.restored.values() if metric in values]
    means = {key: float(np.mean([table.get(key, np.nan) for table in tables])) for key in report.keys}
    finite = [key for key in means if np.isfinite(means[key])]
    order = sorted(finite, key=lambda key: cost(metric, means[key]), reverse=True)
    chosen = dict.fromkeys(order[:each], "worst")
    middle, best = order[len(order) // 2 : len(order) // 2 + 1], order[-each:]
    for place, keys in (("middle", middle), ("best", best)):
        chosen |= {key: place for key in keys if key not in chosen}
    return chosen


def read_images(report: RunReport, metric: str, each: int) -> list[Images]:
    """Restore the chosen samples once more.

    Raises:
        QuellError: The checkpoint or the shards are gone or damaged.
    """
    run = report.file.parent
    shards = ShardSet.open(report.content["data"], cache=report.config.data.cache)
    checkpoint = run / "checkpoints" / str(report.content["checkpoint"])
    if not checkpoint.is_dir():
        raise CheckpointError(
            f"checkpoint {checkpoint.name}, which was measured, is not kept any more: evaluate the run again to see "
            "images of the one that is"
        )
    model = trained_model.load(checkpoint, shards)
    needs = type(model.pipeline).needs(model.config.pipeline)
    recipe = loading.evaluation_recipe(needs, model.config.data, shards)
    places = chosen_samples(report, metric, each)
    numbers = np.array([row["index"] for row in report.content["rows"] if row["key"] in places])
    found: list[Images] = []
    with loading.whole_images(shards, numbers, recipe, 1) as batches:
        for batch in batches:
            restored = model.pipeline.restore(batch)
            for name, output in model.pipeline.outputs.items():
                if not output.primary:
                    continue
                reference = reference_field(output, batch)
                scale = batch[f"{output.noisy}_scale"][0]
                found.append(
                    Images(
                        places[batch["key"][0]],
                        batch["key"][0],
                        output.noisy,
                        stored_image(batch[output.noisy][0], scale),
                        stored_image(restored[name][0], scale),
                        stored_image(batch[reference][0], batch[f"{reference}_scale"][0]) if reference else None,
                        "clean" if reference == output.clean else "second noisy copy",
                    )
                )
    order = ["worst", "middle", "best"]
    return sorted(found, key=lambda images: order.index(images.place))


def draw(images: Sequence[Images], report: RunReport, side_px: int) -> Pictures:
    """The images as PNG, reduced to a longest side by averaging whole blocks of pixels."""
    errors = [_error(each) for each in images]
    limit = float(np.percentile(np.abs(np.concatenate([error.ravel() for error in errors])), ERROR_PERCENTILE))
    limit = limit if np.isfinite(limit) and limit > 0 else 1.0
    rows = [_row(each, error, limit, report, side_px) for each, error in zip(images, errors, strict=True)]
    return Pictures(tuple(rows), limit)


def data_uri(pixels: NDArray[np.uint8], palette: Sequence[int] | None = None) -> str:
    """Grey (H, W), colour (H, W, 3) or palette indices (H, W) as the source of an `img`."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image = image.convert("P") if image.mode != "L" else Image.frombytes("P", image.size, pixels.tobytes())
        image.putpalette(list(palette))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def diverging_palette() -> list[int]:
    """256 colours from blue (negative) over white to red (positive)."""
    ends = {-1: np.array([33, 102, 172]), 1: np.array([178, 24, 43])}
    colours = []
    for value in np.linspace(-1, 1, 256):
        end = ends[1 if value > 0 else -1]
        colours += (255 + (end - 255) * abs(value)).round().astype(int).tolist()
    return colours


def reduced(image: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """The means over square blocks, so that no side is longer; what does not fill a block at the end is cut."""
    factor = -(-max(image.shape[:2]) // side_px)
    if factor == 1:
        return image
    height, width = (size // factor for size in image.shape[:2])
    cut = image[: height * factor, : width * factor]
    blocks = cut.reshape(height, factor, width, factor, *image.shape[2:])
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3))
    return means


def _error(images: Images) -> NDArray[np.float64]:
    """Restored minus reference, or without one noisy minus restored; the mean over colours."""
    first, second = images.restored, images.reference
    if second is None:
        first, second = images.noisy, images.restored
    difference = first - second
    return difference if difference.ndim == 2 else difference.mean(axis=-1)


def _row(images: Images, error: NDArray[np.float64], limit: float, report: RunReport, side_px: int) -> Row:
    """One row of the page."""
    like = images.noisy if images.reference is None else images.reference
    low, high = (float(end) for end in np.percentile(like, WINDOW))
    high = high if high > low else low + 1.0
    shown = {"noisy": images.noisy, "restored": images.restored}
    if images.reference is not None:
        shown[images.reference_name] = images.reference
    pictures = []
    for caption, image in shown.items():
        grey = (np.clip((reduced(image, side_px) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
        pixels = grey[..., :3] if grey.ndim == 3 else grey
        pictures.append(Picture(caption, data_uri(pixels), pixels.shape[1], pixels.shape[0]))
    levels = (np.clip(reduced(error, side_px) / limit, -1, 1) * 127.5 + 127.5).round().astype(np.uint8)
    caption = "what was removed" if images.reference is None else f"restored - {images.reference_name}"
    uri = data_uri(levels, diverging_palette())
    pictures.append(Picture(caption, uri, levels.shape[1], levels.shape[0], is_error=True))
    member = report.config.data.fields.get(images.field, images.field)
    measured = report.restored.get(member, {})
    scores = [f"{name.upper()} {values[images.key]:.4g}" for name, values in measured.items() if images.key in values]
    return Row(
        images.place,
        images.key,
        images.field,
        ", ".join(scores),
        f"black {_rounded(low, high - low)}, white {_rounded(high, high - low)}",
        tuple(pictures),
    )


def try_images(report: RunReport, metric: str, each: int) -> tuple[list[Images], str]:
    """The images, and why there are none."""
    try:
        return read_images(report, metric, each), ""
    except QuellError as error:
        return [], str(error)


def _rounded(value: float, span: float) -> str:
    """An end of a window of this span, without digits that mean nothing in it."""
    return f"{0.0 if abs(value) < 1e-4 * span else value:.3g}"
