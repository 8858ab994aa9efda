"""A model of additive Gaussian noise: its level, its spectrum and its map, as methods and baselines use it.

The noise of a field is `n = sigma * map * (h * w)` for white standard-normal w: w filtered to a power spectrum, then
scaled pixel by pixel. A model of several fields is saved with a run and can be given to it as a file.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import scipy
from numpy.typing import NDArray

from quell.configs.errors import DataError
from quell.configs.support.atomic_files import temporary_beside

Array = NDArray[np.float64]

FORMAT = 1
"""Version of the file format."""


@dataclass(frozen=True, eq=False)
class FieldNoise:
    """The noise of one field, in stored units; per component for complex images."""

    sigma: float
    """Standard deviation: the root mean square over the image."""
    spectrum: Array | None = None
    """Power spectrum (G, G) in the order of `numpy.fft.fftfreq`, with mean 1; None for white noise. The grid is fine
    enough if the autocorrelation vanishes beyond G / 2 pixels."""
    level_map: Array | None = None
    """Relative standard deviation (h, w), with root mean square 1, stretched over the image whatever its size; None
    where the noise is equally strong everywhere."""
    gain: float = 0.0
    """Variance per unit of signal on top of sigma**2, in stored units (Poisson noise); 0 if independent of it."""

    def __post_init__(self) -> None:
        """Raise DataError for values that no noise has."""
        if not (np.isfinite(self.sigma) and self.sigma >= 0):
            raise DataError(f"noise model: sigma must be a finite number >= 0, got {self.sigma}")
        for name in ("spectrum", "level_map"):
            values = getattr(self, name)
            if values is None:
                continue
            if values.ndim != 2 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
                raise DataError(f"noise model: {name} must be a 2-D array of finite numbers >= 0, not all of them 0")

    @property
    def is_white(self) -> bool:
        """Whether pixels are uncorrelated."""
        return self.spectrum is None

    @property
    def kind(self) -> str:
        """`white`, `spectrum`, `map` or `spectrum_map`: what describes the noise beyond its level."""
        parts = [name for name, value in (("spectrum", self.spectrum), ("map", self.level_map)) if value is not None]
        return "_".join(parts) or "white"

    def spectrum_at(self, height: int, width: int) -> Array:
        """The power spectrum on the FFT grid of an image, (height, width), mean 1.

        The autocorrelation is cut or padded to the size of the image, so that correlations keep their length in pixels.
        """
        if self.spectrum is None:
            return np.ones((height, width))
        correlation = np.fft.fftshift(np.fft.ifft2(self.spectrum).real)
        resized = _cut_or_pad(correlation, (height, width))
        spectrum = np.fft.fft2(np.fft.ifftshift(resized)).real.clip(0)
        return np.asarray(spectrum / spectrum.mean())

    def filter_at(self, height: int, width: int) -> Array:
        """Amplitude of the filter that turns white noise of unit variance into this noise's shape, (height, width)."""
        return np.sqrt(self.spectrum_at(height, width))

    def map_at(self, height: int, width: int) -> Array:
        """Standard deviation of every pixel of an image in stored units, (height, width)."""
        if self.level_map is None:
            return np.full((height, width), self.sigma)
        factors = (height / self.level_map.shape[0], width / self.level_map.shape[1])
        stretched = scipy.ndimage.zoom(self.level_map, factors, order=1, mode="nearest", grid_mode=True)
        return np.asarray(self.sigma * stretched / np.sqrt(np.mean(stretched**2)))

    def correlation(self, rows: int = 0, columns: int = 1) -> float:
        """Correlation between pixels that are `rows` and `columns` apart."""
        if self.spectrum is None:
            return float(rows == 0 and columns == 0)
        correlation = np.fft.ifft2(self.spectrum).real
        return float(correlation[rows, columns] / correlation[0, 0])

    def correlation_length(self, threshold: float = 0.05) -> tuple[int, int]:
        """Largest lag (rows, columns), in pixels along each axis, whose correlation exceeds the threshold."""
        if self.spectrum is None:
            return 0, 0
        reach = [size // 2 for size in self.spectrum.shape]
        along_rows = [lag for lag in range(1, reach[0]) if abs(self.correlation(lag, 0)) > threshold]
        along_columns = [lag for lag in range(1, reach[1]) if abs(self.correlation(0, lag)) > threshold]
        return max(along_rows, default=0), max(along_columns, default=0)

    def sample(self, random: np.random.Generator, shape: tuple[int, int]) -> Array:
        """Draw noise for an image of this shape in stored units; the spectrum makes it periodic."""
        white = random.standard_normal(shape)
        coloured = np.fft.ifft2(np.fft.fft2(white) * self.filter_at(*shape)).real
        return np.asarray(coloured * self.map_at(*shape))


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """The noise of each field of a data set, and how it is known."""

    fields: Mapping[str, FieldNoise]
    """Field -> its noise."""
    source: str = "given"
    """Where the numbers come from, e.g. `repeats`, `background`, `smooth regions`, `residual`."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Further facts in words, by name."""

    def save(self, path: Path) -> None:
        """Write the model to an `.npz` file, atomically."""
        arrays: dict[str, NDArray[np.generic]] = {}
        described: dict[str, dict[str, float]] = {}
        for name, noise in self.fields.items():
            described[name] = {"sigma": noise.sigma, "gain": noise.gain}
            for kind in ("spectrum", "level_map"):
                if (values := getattr(noise, kind)) is not None:
                    arrays[f"{kind}/{name}"] = values
        header = {"format": FORMAT, "source": self.source, "notes": dict(self.notes), "fields": described}
        temporary = temporary_beside(path)
        with open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
        os.replace(temporary, path)

    @staticmethod
    def load(path: Path) -> "NoiseModel":
        """Read a model that `save` wrote.

        Raises:
            DataError: There is no such file, or it is no noise model.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                header = json.loads(str(archive["header"][()]))
                if header["format"] != FORMAT:
                    raise DataError(f"{path}: noise model of format {header['format']}, this version reads {FORMAT}")
                fields = {
                    name: FieldNoise(
                        values["sigma"],
                        _optional(archive, f"spectrum/{name}"),
                        _optional(archive, f"level_map/{name}"),
                        values["gain"],
                    )
                    for name, values in header["fields"].items()
                }
        except (OSError, KeyError, TypeError, ValueError, EOFError, BadZipFile) as error:
            raise DataError(
                f"{path}: expected a noise model, as python -m shards.noise --save writes it ({error})"
            ) from error
        return NoiseModel(fields, header["source"], header["notes"])


def normalised_spectrum(spectrum: Array) -> Array:
    """A power spectrum with mean 1, as `FieldNoise.spectrum` holds it."""
    return np.asarray(spectrum / spectrum.mean(), dtype=np.float64)


def spectrum_of_kernel(kernel: Array, size: int = 64) -> Array:
    """Power spectrum (size, size), mean 1, of white noise filtered by a kernel of at most `size` pixels a side."""
    padded = np.zeros((size, size))
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    return normalised_spectrum(np.abs(np.fft.fft2(padded)) ** 2)


def _optional(archive: Mapping[str, NDArray[np.float64]], name: str) -> Array | None:
    return np.asarray(archive[name], dtype=np.float64) if name in archive else None


def _cut_or_pad(centred: Array, shape: tuple[int, int]) -> Array:
    """A centred (fftshifted) array cut or zero-padded around its centre to another shape."""
    for axis, size in enumerate(shape):
        old = centred.shape[axis]
        centre, new_centre = old // 2, size // 2
        if old > size:
            start = centre - new_centre
            centred = np.take(centred, range(start, start + size), axis=axis)
        elif old < size:
            before = new_centre - centre
            widths = [(0, 0), (0, 0)]
            widths[axis] = (before, size - old - before)
            centred = np.pad(centred, widths)
    return centred
