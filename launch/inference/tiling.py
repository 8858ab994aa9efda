"""A function of image batches applied to images of any size, tile by tile, joined without seams."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from configs.errors import ConfigError

Images = dict[str, Tensor]
"""NCHW tensors by name, all of one N, H and W; (N, 1, 1, 1) tensors go with their image."""


def tiled(
    restore: Callable[[Images], Images],
    images: Images,
    *,
    tile: int = 256,
    overlap: int = 32,
    batch: int = 4,
    device: torch.device | None = None,
) -> Images:
    """`restore(images)`, computed on tiles of `tile` px that share `overlap` px, `batch` tiles at a time; on the CPU.

    The outer quarter of an overlap is not used at all and the middle half is blended with a raised cosine. So a network
    that looks at most overlap / 4 px far gives the same as on the whole image, whatever the tile size. One that looks
    at statistics of its whole input (instance and group norms, attention, spectra) does not: give it tiles as large as
    memory allows. `tile` 0 takes whole images; so does an image that is not larger than a tile. Tiles are of one size:
    the last one of a row is moved back inside. Raises ConfigError for an overlap of more than half a tile.
    """
    if tile < 0 or overlap < 0 or (tile and overlap > tile // 2):
        raise ConfigError(f"tiles of {tile} px cannot overlap by {overlap} px: give at most {max(tile, 0) // 2} px")
    first = next(value for value in images.values() if value.shape[-2:] != (1, 1))
    (count, _, height, width), device = first.shape, device or first.device
    size_y, size_x = min(tile or height, height), min(tile or width, width)
    rows = {y: window(y, size_y, height, overlap) for y in starts(height, size_y, overlap)}
    columns = {x: window(x, size_x, width, overlap) for x in starts(width, size_x, overlap)}
    places = [(n, y, x) for n in range(count) for y in rows for x in columns]
    sums: Images = {}
    for group in (places[i : i + batch] for i in range(0, len(places), batch)):
        cut = {
            name: torch.stack([_cut(value, place, size_y, size_x) for place in group]).to(device)
            for name, value in images.items()
        }
        for name, restored in restore(cut).items():
            total = sums.setdefault(name, torch.zeros(count, restored.shape[1], height, width, dtype=restored.dtype))
            for (n, y, x), piece in zip(group, restored.cpu(), strict=True):
                total[n, :, y : y + size_y, x : x + size_x] += piece * torch.outer(rows[y], columns[x])
    weights = torch.outer(*(_summed(length, windows) for length, windows in ((height, rows), (width, columns))))
    return {name: total / weights for name, total in sums.items()}


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover `length` px."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [min(i * (tile - overlap), length - tile) for i in range(count)]


def window(start: int, tile: int, length: int, overlap: int) -> Tensor:
    """Weights (tile,) of a tile's pixels along one axis: one inside, falling to zero towards neighbours."""
    weights = torch.ones(tile, dtype=torch.float64)
    if tile == length:
        return weights.float()
    unused = overlap // 4
    ramp = overlap - 2 * unused
    rise = weights.clone()
    rise[:unused] = 0
    rise[unused : unused + ramp] = torch.sin((torch.arange(ramp) + 0.5) / max(ramp, 1) * math.pi / 2) ** 2
    if start > 0:
        weights *= rise
    if start + tile < length:
        weights *= rise.flip(0)
    return weights.float()


def _summed(length: int, windows: dict[int, Tensor]) -> Tensor:
    """The weights of all tiles along one axis, added up, (length,)."""
    total = torch.zeros(length)
    for start, weights in windows.items():
        total[start : start + len(weights)] += weights
    return total


def _cut(value: Tensor, place: tuple[int, int, int], size_y: int, size_x: int) -> Tensor:
    n, y, x = place
    return value[n] if value.shape[-2:] == (1, 1) else value[n, :, y : y + size_y, x : x + size_x]
