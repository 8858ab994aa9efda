"""Noise of a given spectrum and map, from the standard-normal numbers of a batch.

A batch shows windows of images, mirrored and rotated; the noise of an image has a direction (streaks) and a place
(strong at a border). So noise is drawn as it lies in the stored image, and then turned as the window was.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quell.configs.export_mode.flag import is_exporting
from quell.losses.noise.model import FieldNoise

REACH = 0.01
"""Absolute correlation from which on two pixels count as uncorrelated."""

EVEN_PX = 8
"""Margins are multiples of this, which Fourier transforms are fast for."""

ANISOTROPIC = 0.1
"""Difference between the autocorrelations of an image and of the turned image from which on the turned image counts as
one with other noise."""

ORIENTATIONS = 8
"""Symmetries of the square: quarter turns and their mirror images."""


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int


class NoiseShape:
    """The spectrum and the map of a field's noise, as torch draws from them; the level is separate."""

    def __init__(self, noise: FieldNoise) -> None:
        self.noise = noise
        self.is_white, self.has_map = noise.spectrum is None, noise.level_map is not None
        self.margin_px = math.ceil(_reach_px(noise) / EVEN_PX) * EVEN_PX
        """Rows and columns to draw beyond a window so that its opposite borders are not correlated."""
        self._filters: dict[tuple[int, int, torch.device], Tensor] = {}
        self._of_magnitudes: NoiseShape | None = None
        self._map: Tensor | None = None
        if noise.level_map is not None:
            self._map = torch.from_numpy(noise.level_map / np.sqrt(np.mean(noise.level_map**2))).float()

    def coloured(self, normal_NCPQ: Tensor, size: Size, window_N7: Tensor | None = None) -> Tensor:
        """Noise of unit variance with the field's correlation between pixels.

        Args:
            normal_NCPQ: Standard-normal numbers. A Fourier filter makes pixels at opposite borders correlated unless
                P and Q exceed the size by `margin_px`.
            size: Height and width of the result.
            window_N7: The batch's `window`; None for images as stored.

        Returns:
            (N, C, height, width); the numbers themselves, cut to size, for white noise.
        """
        if self.is_white:
            return normal_NCPQ[..., : size.height, : size.width]
        coloured = filtered(normal_NCPQ, self._filter(normal_NCPQ))[..., : size.height, : size.width]
        if window_N7 is None:
            return coloured
        rows, columns = stored_pixels(window_N7, size)
        source = (rows * size.width + columns).flatten(1)[:, None].expand(-1, coloured.shape[1], -1)
        return coloured.flatten(2).gather(2, source).view_as(coloured)

    def of_magnitudes(self) -> "NoiseShape":
        """The shape of the noise of magnitudes without signal: their correlation is about the square of a component's.

        Goodman, Speckle Phenomena in Optics, 2007, section 3: exact for the square of the magnitude.
        """
        if self.noise.spectrum is None:
            return self
        if self._of_magnitudes is None:
            correlation = np.fft.ifft2(self.noise.spectrum).real
            squared = np.fft.fft2((correlation / correlation[0, 0]) ** 2).real.clip(0)
            self._of_magnitudes = NoiseShape(FieldNoise(self.noise.sigma, squared / squared.mean()))
        return self._of_magnitudes

    def levels(self, size: Size, window_N7: Tensor | None = None, *, device: torch.device | None = None) -> Tensor:
        """Relative standard deviation of every pixel, (N, 1, height, width), or (1, 1, 1, 1) without a map.

        Its mean square is 1 over the whole image, not over a window. Without windows, for whole images of this size.
        """
        if self._map is None:
            return torch.ones(1, 1, 1, 1, device=device)
        if window_N7 is None:
            window_N7 = torch.stack([torch.full((), value) for value in (0, 0, *size, 0, 0, 0)])[None]
        window_N7 = window_N7.to(device)
        rows, columns = stored_pixels(window_N7, size)
        top, left, height, width = (window_N7[:, i, None, None] for i in range(4))
        return _interpolated(self._map.to(device), (rows + top, height), (columns + left, width))[:, None]

    def orientations(self) -> list[int]:
        """The orientations of an image in which its noise looks the same; `oriented` numbers them."""
        if self.noise.spectrum is None:
            return list(range(ORIENTATIONS))
        correlation = np.fft.fftshift(np.fft.ifft2(self.noise.spectrum).real)
        correlation = correlation[1:, 1:] / correlation.max()  # an odd size, whose centre stays in place
        if correlation.shape[0] != correlation.shape[1]:
            return [0, 2]
        # in the order of `oriented`
        quarter_turns = [np.rot90(correlation, turns) for turns in range(ORIENTATIONS // 2)]
        turned = [*quarter_turns, *(image[:, ::-1] for image in quarter_turns)]
        return [i for i, other in enumerate(turned) if np.abs(other - correlation).max() < ANISOTROPIC]

    def haar_gain(self) -> float:
        """Standard deviation of the diagonal Haar coefficients of noise of unit variance; 1 for white noise."""
        if self.noise.spectrum is None:
            return 1.0
        beside = self.noise.correlation(0, 1) + self.noise.correlation(1, 0)
        diagonal = (self.noise.correlation(1, 1) + self.noise.correlation(1, -1)) / 2
        return float(np.sqrt(max(1 - beside + diagonal, 0.0)))

    def _filter(self, normal_NCPQ: Tensor) -> Tensor:
        height, width = normal_NCPQ.shape[-2:]
        if is_exporting():
            return self._filter_of_any_size(height, width, normal_NCPQ.device)
        key = (height, width, normal_NCPQ.device)
        if key not in self._filters:
            amplitude = torch.from_numpy(self.noise.filter_at(height, width)).float()
            self._filters[key] = amplitude.to(normal_NCPQ.device)
        return self._filters[key]

    def _filter_of_any_size(self, height: int, width: int, device: torch.device) -> Tensor:
        """`FieldNoise.filter_at` in torch: the correlation at the lags of an image, transformed."""
        assert self.noise.spectrum is not None
        correlation = torch.from_numpy(np.fft.ifft2(self.noise.spectrum).real).float().to(device)
        for axis, size in enumerate((height, width)):
            known = correlation.shape[axis]
            place = torch.arange(size, device=device)
            lag = torch.where(place < (size + 1) // 2, place, place - size)
            is_known = (lag >= -(known // 2)) & (lag < (known + 1) // 2)
            correlation = correlation.index_select(axis, torch.where(is_known, torch.remainder(lag, known), 0))
            correlation = correlation * is_known.float().unsqueeze(1 - axis)
        spectrum = torch.fft.fft2(correlation).real.clamp_min(0)
        return (spectrum / spectrum.mean()).sqrt()


def filtered(normal_NCPQ: Tensor, amplitude_PQ: Tensor) -> Tensor:
    """White noise filtered by a real, symmetric amplitude on the grid of `torch.fft.fft2`, periodically."""
    with torch.autocast(normal_NCPQ.device.type, enabled=False):
        if normal_NCPQ.is_complex():
            return torch.fft.ifft2(torch.fft.fft2(normal_NCPQ) * amplitude_PQ)
        half = amplitude_PQ[..., : normal_NCPQ.shape[-1] // 2 + 1]
        spectrum = torch.fft.rfft2(normal_NCPQ.float()) * half
        return torch.fft.irfft2(spectrum, s=normal_NCPQ.shape[-2:]).to(normal_NCPQ.dtype)


def oriented(image: Tensor, orientation: int) -> Tensor:
    """An image (..., H, W) in one of the eight orientations."""
    turned = torch.rot90(image, orientation % 4, (-2, -1))
    return turned.flip(-1) if orientation % ORIENTATIONS >= 4 else turned


def undo_orientation(image: Tensor, orientation: int) -> Tensor:
    """Undo `oriented`."""
    upright = image.flip(-1) if orientation % ORIENTATIONS >= 4 else image
    return torch.rot90(upright, -(orientation % 4), (-2, -1))


def stored_pixels(window_N7: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Row and column, within the window as stored, that each pixel of a turned window shows; (N, H, W) each.

    Rectangular windows are not turned on their side.
    """
    i = torch.arange(size.height, device=window_N7.device)[None, :, None].expand(window_N7.shape[0], -1, size.width)
    j = torch.arange(size.width, device=window_N7.device)[None, None].expand(window_N7.shape[0], size.height, -1)
    mirror_rows, mirror_columns, turns = (window_N7[:, k, None, None] for k in (4, 5, 6))
    last_row, last_column = size.height - 1, size.width - 1
    rows, columns = i, j
    for turn, (r, c) in enumerate(((j, last_column - i), (last_row - i, last_column - j), (last_row - j, i)), start=1):
        rows, columns = torch.where(turns == turn, r, rows), torch.where(turns == turn, c, columns)
    return (
        torch.where(mirror_rows == 1, last_row - rows, rows),
        torch.where(mirror_columns == 1, last_column - columns, columns),
    )


def _interpolated(values: Tensor, *axes: tuple[Tensor, Tensor]) -> Tensor:
    """Values (h, w) that are stretched over an image, at pixels of it: bilinear, constant beyond the outer centres.

    Each axis is given as the positions of the pixels (N, H, W) and the length of the image (N, 1, 1).
    """
    lows, weights = [], []
    for cells, (position, length) in zip(values.shape, axes, strict=True):
        exact = ((position + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
        low = exact.floor().clamp(max=max(cells - 2, 0))
        lows.append(low.long())
        weights.append(exact - low)
    (top, left), (down, across) = lows, weights
    below, right = (torch.clamp(low + 1, max=cells - 1) for low, cells in zip(lows, values.shape, strict=True))
    upper = values[top, left] * (1 - across) + values[top, right] * across
    lower = values[below, left] * (1 - across) + values[below, right] * across
    return upper * (1 - down) + lower * down


def _reach_px(noise: FieldNoise) -> int:
    """Largest lag, in pixels, at which pixels are correlated."""
    if noise.spectrum is None:
        return 0
    correlation = np.abs(np.fft.ifft2(noise.spectrum).real)
    rows, columns = np.nonzero(correlation > REACH * correlation[0, 0])
    lags = [np.minimum(at, size - at) for at, size in zip((rows, columns), correlation.shape, strict=True)]
    return int(max(lag.max() for lag in lags))
