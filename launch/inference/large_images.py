"""Restoring images that are too large for memory, and long stacks, in parts that are read and written one at a time."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from quell.launch.inference import tiling
from quell.launch.inference.files.opened import PixelRows
from quell.launch.inference.restorer import Layout, Restorer, as_stack
from quell.pipelines.base import Batch

MAX_PX_AT_ONCE = 1 << 24
"""Images and stacks of up to so many pixels are restored as a whole (about 0.4 GB), larger ones in parts."""
SAMPLE_BANDS, SAMPLE_ROWS = 32, 32
"""What stands for a large image where something is measured on the whole: bands of rows, spread evenly."""

Write = Callable[[str, int, int, np.ndarray], None]
"""Takes output name, image, first row, and restored rows (rows, W, C)."""


class _Whole(NamedTuple):
    """What was measured on a whole image."""

    scales: dict[str, float]
    statistics: Batch


def is_large(layout: Layout) -> bool:
    """Whether an image or a stack is restored in parts."""
    return layout.images * layout.height * layout.width > MAX_PX_AT_ONCE


def restore_in_parts(
    restorer: Restorer, fields: Mapping[str, PixelRows], layout: Layout, source: str, write: Write
) -> None:
    """Restore an image or a stack part by part.

    A stack is divided between its images, which gives the same pixels as restoring it at once. A large image is divided
    into bands of rows; its normalisation and the statistics that the method asks for are measured on a part of it.

    Args:
        restorer: The run.
        fields: Field -> its pixels.
        layout: Their shape as a stack.
        source: What messages call them.
        write: Called with the restored rows of each output, image after image and from top to bottom.
    """
    pixels = layout.height * layout.width
    if pixels > MAX_PX_AT_ONCE and restorer.tiles.size:
        for image in range(layout.images):
            _restore_bands(restorer, fields, layout, image, source, write)
        return
    batch = restorer.tiles.batch
    # a multiple of the batch: then the same tiles meet in a batch as without parts
    at_once = max(1, MAX_PX_AT_ONCE // pixels // batch * batch)
    for first in range(0, layout.images, at_once):
        numbers = range(first, min(first + at_once, layout.images))
        stacks = {
            name: np.stack([array.rows(i, 0, layout.height) for i in numbers]).reshape(len(numbers), *layout[1:3], -1)
            for name, array in fields.items()
        }
        arrays = {name: stack if stack.shape[-1] > 1 else stack[..., 0] for name, stack in stacks.items()}
        for output, restored in restorer.restore(arrays, source, first_index=first).items():
            for number, image_HWC in zip(numbers, restored.reshape(-1, *layout[1:]), strict=True):
                write(output, number, 0, image_HWC)


def _restore_bands(
    restorer: Restorer, fields: Mapping[str, PixelRows], layout: Layout, image: int, source: str, write: Write
) -> None:
    whole = _measure(restorer, fields, layout, image)

    def read(top: int, bottom: int) -> dict[str, torch.Tensor]:
        stacks = {name: _as_stack(array.rows(image, top, bottom), layout) for name, array in fields.items()}
        return restorer.to_batch(stacks, first_index=image, scales=whole.scales) | whole.statistics

    with torch.inference_mode():
        for top, band in tiling.tiled_bands(
            lambda tiles: restorer.restore_tiles(tiles, source),
            read,
            layout.height,
            layout.width,
            tile=restorer.tiles.size,
            overlap=restorer.tiles.overlap,
            batch=restorer.tiles.batch,
            device=restorer.device,
        ):
            for name, output in restorer.outputs.items():
                values = band[name][None] * whole.scales[output.noisy]
                write(name, image, top, restorer.to_array(name, values, fields[output.noisy].dtype)[0])


def _as_stack(rows: np.ndarray, layout: Layout) -> np.ndarray:
    """Rows of an image as an image of their own, (1, rows, W, C)."""
    return as_stack(rows, layout._replace(images=1, height=len(rows)))


def _measure(restorer: Restorer, fields: Mapping[str, PixelRows], layout: Layout, image: int) -> _Whole:
    """Measure normalisation and statistics on bands of an image."""
    rows = min(SAMPLE_ROWS, layout.height)
    tops = np.unique(np.linspace(0, layout.height - rows, SAMPLE_BANDS).astype(int))
    stacks = {
        name: _as_stack(np.concatenate([array.rows(image, top, top + rows) for top in tops]), layout)
        for name, array in fields.items()
    }
    with torch.inference_mode():
        batch = restorer.to_batch(stacks)
        statistics = restorer.pipeline.image_statistics(batch)
    return _Whole({name: float(batch[f"{name}_scale"]) for name in fields}, statistics)
