"""Restoring images of any size tile by tile, joined without seams."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from quell.configs.errors import ConfigError

Images = dict[str, Tensor]
"""NCHW tensors by name, all of one N, H and W; besides them (N, 1, 1, 1) tensors with one value per image."""


class Corner(NamedTuple):
    """Image number and top left pixel of a tile."""

    image: int
    top: int
    left: int


def tiled(
    restore: Callable[[Images], Images],
    images: Images,
    *,
    tile: int = 256,
    overlap: int = 32,
    batch: int = 4,
    device: torch.device | None = None,
) -> Images:
    """Apply a function of image batches to images of any size, on overlapping tiles.

    The outer quarter of an overlap on either side is discarded, and the middle half is blended with a raised cosine.
    So a network whose receptive field reaches at most overlap / 4 px from its centre gives the same result as on the
    full image, whatever the tile size. Networks that depend on their whole input (instance and group norms, attention,
    spectra) do not: use tiles as large as memory allows. All tiles are of one size: the last of a row or column is
    shifted back inside the image.

    Args:
        restore: Maps a batch of tiles on `device`, NCHW by name, to restored tiles of the same N, H and W.
        images: The full images, by name; (N, 1, 1, 1) tensors accompany the tiles of their image.
        tile: Side of a tile in pixels; 0, or an image no larger than a tile, takes full images.
        overlap: Pixels that neighbouring tiles share, at most half a tile.
        batch: Tiles restored together.
        device: Where `restore` runs; default where the images are.

    Returns:
        The restored images by name, NCHW, on the CPU.

    Raises:
        ConfigError: A negative size, or an overlap of more than half a tile.
    """
    if tile < 0 or overlap < 0 or (tile and overlap > tile // 2):
        raise ConfigError(f"tiles of {tile} px cannot overlap by {overlap} px: the overlap must be 0 to half a tile")
    first = next(value for value in images.values() if not _is_per_image(value))
    (count, _, height, width), device = first.shape, device or first.device
    tile_height, tile_width = min(tile or height, height), min(tile or width, width)
    row_weights = {y: blend_weights(y, tile_height, height, overlap) for y in tile_starts(height, tile_height, overlap)}
    column_weights = {x: blend_weights(x, tile_width, width, overlap) for x in tile_starts(width, tile_width, overlap)}
    corners = [Corner(n, y, x) for n in range(count) for y in row_weights for x in column_weights]
    sums: Images = {}
    for group in (corners[i : i + batch] for i in range(0, len(corners), batch)):
        tiles = {
            name: torch.stack([_cut(value, corner, tile_height, tile_width) for corner in group]).to(device)
            for name, value in images.items()
        }
        for name, restored in restore(tiles).items():
            total = sums.setdefault(name, torch.zeros(count, restored.shape[1], height, width, dtype=restored.dtype))
            for (n, y, x), restored_tile in zip(group, restored.cpu(), strict=True):
                weights = torch.outer(row_weights[y], column_weights[x])
                total[n, :, y : y + tile_height, x : x + tile_width] += restored_tile * weights
    total_weights = torch.outer(_sum_weights(height, row_weights), _sum_weights(width, column_weights))
    return {name: total / total_weights for name, total in sums.items()}


def tiled_bands(
    restore: Callable[[Images], Images],
    read: Callable[[int, int], Images],
    height: int,
    width: int,
    *,
    tile: int,
    overlap: int,
    batch: int,
    device: torch.device,
) -> Iterator[tuple[int, Images]]:
    """`tiled` for one image that is too large for memory: it is read and returned in bands of rows.

    Args:
        restore: As for `tiled`.
        read: First row and the row after the last -> the rows of each field, (1, C, rows, W), and values per image.
        height: Of the image, pixels.
        width: Of the image, pixels.
        tile: Side of a tile in pixels, more than 0.
        overlap: Pixels that neighbouring tiles share, at most half a tile.
        batch: Tiles restored together.
        device: Where `restore` runs.

    Yields:
        The first row of a band and its restored pixels, (C, rows, W) by name on the CPU; from top to bottom, without
        gaps.
    """
    tile_height, tile_width = min(tile, height), min(tile, width)
    starts = tile_starts(height, tile_height, overlap)
    row_weights = {y: blend_weights(y, tile_height, height, overlap) for y in starts}
    column_weights = {x: blend_weights(x, tile_width, width, overlap) for x in tile_starts(width, tile_width, overlap)}
    row_sums, column_sums = _sum_weights(height, row_weights), _sum_weights(width, column_weights)
    sums: Images = {}
    previous = 0
    for y, following in zip(starts, [*starts[1:], height], strict=True):
        band = read(y, y + tile_height)
        corners = [Corner(0, 0, x) for x in column_weights]
        for name, total in sums.items():  # the rows above are finished; those below are new
            kept = total[:, y - previous :]
            sums[name] = torch.cat([kept, torch.zeros(kept.shape[0], tile_height - kept.shape[1], width).to(kept)], 1)
        for group in (corners[i : i + batch] for i in range(0, len(corners), batch)):
            tiles = {
                name: torch.stack([_cut(value, corner, tile_height, tile_width) for corner in group]).to(device)
                for name, value in band.items()
            }
            for name, restored in restore(tiles).items():
                total = sums.setdefault(name, torch.zeros(restored.shape[1], tile_height, width, dtype=restored.dtype))
                for (_, _, x), restored_tile in zip(group, restored.cpu(), strict=True):
                    total[:, :, x : x + tile_width] += restored_tile * torch.outer(row_weights[y], column_weights[x])
        weights = torch.outer(row_sums[y:following], column_sums)
        yield y, {name: total[:, : following - y] / weights for name, total in sums.items()}
        previous = y


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixel of each tile along an axis of `length` px."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [min(i * (tile - overlap), length - tile) for i in range(count)]


def blend_weights(start: int, tile: int, length: int, overlap: int) -> Tensor:
    """Weights (tile,) of a tile's pixels along an axis: one inside, falling to zero towards a neighbouring tile."""
    weights = torch.ones(tile, dtype=torch.float64)
    if tile == length:
        return weights.float()
    discarded = overlap // 4
    ramp = overlap - 2 * discarded
    rise = weights.clone()
    rise[:discarded] = 0
    rise[discarded : discarded + ramp] = torch.sin((torch.arange(ramp) + 0.5) / max(ramp, 1) * math.pi / 2) ** 2
    if start > 0:
        weights *= rise
    if start + tile < length:
        weights *= rise.flip(0)
    return weights.float()


def _sum_weights(length: int, weights_by_start: dict[int, Tensor]) -> Tensor:
    """The sum (length,) of all tiles' weights along an axis.

    Not 1 everywhere: the last tile, shifted back inside the image, overlaps its neighbour by more than the others do.
    """
    total = torch.zeros(length)
    for start, weights in weights_by_start.items():
        total[start : start + len(weights)] += weights
    return total


def _is_per_image(value: Tensor) -> bool:
    return value.shape[-2:] == (1, 1)


def _cut(value: Tensor, corner: Corner, tile_height: int, tile_width: int) -> Tensor:
    """The tile (C, h, w) at a corner; a value per image stays (1, 1, 1)."""
    n, y, x = corner
    return value[n] if _is_per_image(value) else value[n, :, y : y + tile_height, x : x + tile_width]
