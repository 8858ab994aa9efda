"""Noise of known level, spectrum and map, as scanners and cameras make it, added to clean images.

Every kind scales to --sigma: it is the standard deviation of the noise in the image, after any filter; in each of the
real and imaginary parts where images are complex. What it is exactly is written to `truth_noise.npz`, for tests.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quell.configs.support.arguments import real_number
from quell.losses.noise.model import FieldNoise, NoiseModel, normalised_spectrum

Array = NDArray[np.float64]

REAL_KINDS = {
    "gaussian": "gaussian, added",
    "blurred": "gaussian, filtered by a Gaussian of --blur pixels",
    "streaks": "gaussian, filtered along rows by a Gaussian of --blur pixels",
    "varying": "gaussian, its standard deviation rising from --sigma at the border to --sigma-to in the centre",
    "poisson": "poisson with a variance of --gain per unit of signal, plus gaussian",
    "multiplicative": "gaussian in proportion to the signal",
    "correlated": "gaussian, with a correlation of --shared between the contrasts",
    "salt": "gaussian, and a share --impulses of the pixels replaced by 0 or 1",
}
"""Kinds of --noise for real images -> the note in the shards."""
COMPLEX_KINDS = {
    "kspace": "complex gaussian, after a Hann filter on the --keep of k-space that is not zero-filled",
    "zero_filled": "complex gaussian, with zeros outside the central --keep of k-space",
    "partial": "complex gaussian, with zeros in the last rows of k-space: --keep of them are measured",
}
"""Kinds of --noise for complex images -> the note in the shards; the clean image passes through the same filter."""
DEFAULTS = {"blur": 1.0, "sigma_to": 0.2, "keep": 0.7, "gain": 0.05, "shared": 0.5, "impulses": 0.05}
"""Values of the arguments that only some kinds read."""


@dataclass(frozen=True)
class MadeUpNoise:
    """One kind of noise with its parameters."""

    kind: str
    sigma: float
    blur: float
    sigma_to: float
    keep: float
    gain: float
    shared: float
    impulses: float

    @staticmethod
    def of(args: argparse.Namespace) -> "MadeUpNoise":
        """The noise that the arguments ask for."""
        given = {name: getattr(args, name, default) for name, default in DEFAULTS.items()}
        return MadeUpNoise(args.noise, args.sigma, **given)

    @property
    def is_complex(self) -> bool:
        """Whether the kind is one of complex images."""
        return self.kind in COMPLEX_KINDS

    @property
    def note(self) -> str:
        """The noise in words."""
        values = {f"--{name.replace('_', '-')}": f"{getattr(self, name):g}" for name in ("sigma", *DEFAULTS)}
        text = {**REAL_KINDS, **COMPLEX_KINDS}[self.kind]
        for option in sorted(values, key=len, reverse=True):
            text = text.replace(option, values[option])
        return text

    def clean(self, image: NDArray[np.number]) -> NDArray[np.number]:
        """The image as it is without noise: filtered where the kind filters k-space, else unchanged."""
        if not self.is_complex:
            return image
        return np.asarray(np.fft.ifft2(np.fft.fft2(image) * self._kspace_filter(image.shape)))

    def add(
        self, clean: NDArray[np.number], random: np.random.Generator, common: np.random.Generator
    ) -> NDArray[np.number]:
        """The clean image (H, W), as `clean` returns it, with noise.

        Args:
            clean: Real or, for complex kinds, complex.
            random: Generator of this image.
            common: Generator that starts alike for all contrasts of a sample.
        """
        if self.is_complex:
            return np.asarray(clean + self._complex_noise(random, clean.shape))
        image = np.asarray(clean, dtype=np.float64)
        noise = random.standard_normal(image.shape)
        if self.kind == "poisson":
            # Counts of `gain` each: their variance is gain times the signal.
            return np.asarray(random.poisson(image.clip(0) / self.gain) * self.gain + self.sigma * noise)
        if self.kind == "multiplicative":
            return np.asarray(image * (1 + self.sigma * noise))
        if self.kind == "correlated":
            own = np.sqrt(1 - self.shared)
            return np.asarray(
                image + self.sigma * (own * noise + np.sqrt(self.shared) * common.standard_normal(image.shape))
            )
        if self.kind == "salt":
            chance = random.random(image.shape)
            impulse = np.where(chance < self.impulses / 2, 0.0, 1.0)
            return np.where(chance < self.impulses, impulse, image + self.sigma * noise)
        truth = self.truth(image.shape)
        assert truth is not None
        return np.asarray(image + truth.sample(random, (image.shape[0], image.shape[1])))

    def truth(self, shape: tuple[int, ...]) -> FieldNoise | None:
        """The noise of images of this size; None for kinds that the noise model does not describe."""
        if self.kind in ("multiplicative", "salt"):
            return None
        if self.kind == "varying":
            levels = self.sigma + (self.sigma_to - self.sigma) * _bump((shape[0], shape[1]))
            root_mean_square = float(np.sqrt(np.mean(levels**2)))
            return FieldNoise(root_mean_square, level_map=levels / root_mean_square)
        if self.kind == "poisson":
            return FieldNoise(self.sigma, gain=self.gain)
        if self.is_complex:
            power = np.abs(self._kspace_filter(shape)) ** 2
            # The real part of the noise sees the mean of S(f) and S(-f).
            return FieldNoise(self.sigma, normalised_spectrum((power + np.roll(power[::-1, ::-1], (1, 1), (0, 1))) / 2))
        if self.kind in ("blurred", "streaks"):
            blurs = (self.blur if self.kind == "blurred" else 0.0, self.blur)
            profiles = [
                np.exp(-((2 * np.pi * blur * np.fft.fftfreq(size)) ** 2))
                for blur, size in zip(blurs, shape, strict=False)
            ]
            return FieldNoise(self.sigma, normalised_spectrum(np.outer(*profiles)))
        return FieldNoise(self.sigma)

    def _complex_noise(self, random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex128]:
        """Complex noise after the filter, with a standard deviation of sigma in each part."""
        kept = self._kspace_filter(shape)
        real, imaginary = random.standard_normal((2, *shape))
        noise = np.fft.ifft2(np.fft.fft2(real + 1j * imaginary) * kept)
        return np.asarray(noise * (self.sigma / np.sqrt(np.mean(kept**2))))

    def _kspace_filter(self, shape: tuple[int, ...]) -> Array:
        """The factor of every k-space sample, (H, W), in the order of fftfreq."""
        rows, columns = (2 * np.abs(np.fft.fftfreq(size)) for size in shape[:2])
        if self.kind == "partial":
            measured = np.fft.fftfreq(shape[0]) < self.keep - 0.5
            return np.asarray(np.multiply.outer(measured, np.ones(shape[1])), dtype=np.float64)
        kept = np.multiply.outer(rows <= self.keep, columns <= self.keep).astype(np.float64)
        if self.kind == "zero_filled":
            return kept
        hann = np.multiply.outer(*(np.cos(np.pi / 2 * (line / self.keep).clip(0, 1)) ** 2 for line in (rows, columns)))
        return np.asarray(kept * hann)


def add_noise_parameters(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that only some kinds of noise read; absent from the parsed arguments unless given."""
    for name, text in {
        "blur": "standard deviation of the filter in pixels, of --noise blurred and streaks",
        "sigma_to": "standard deviation in the centre, of --noise varying",
        "keep": "share of k-space that is measured along each axis, of --noise kspace, zero_filled and partial",
        "gain": "variance per unit of signal, of --noise poisson",
        "shared": "correlation between the contrasts, of --noise correlated",
        "impulses": "share of the pixels that are 0 or 1, of --noise salt",
    }.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=_share if name in ("keep", "shared", "impulses") else real_number(above=0),
            default=argparse.SUPPRESS,
            help=f"{text} (default {DEFAULTS[name]:g})",
        )


def as_stored(image: NDArray[np.number], magnitude: bool) -> NDArray[np.number]:
    """The image as complex64, or as float32 if it is real or magnitudes are asked for."""
    if magnitude:
        return np.abs(image).astype(np.float32)
    return image.astype(np.complex64 if np.iscomplexobj(image) else np.float32)


def write_truth(output: Path, noise: Mapping[str, FieldNoise | None], note: str) -> None:
    """Write what the noise is to `truth_noise.npz` beside the splits, if the noise model describes it."""
    known = {field: model for field, model in noise.items() if model is not None}
    if known and output.is_dir():
        NoiseModel(known, "given", {"noise": note}).save(output / "truth_noise.npz")


def _share(text: str) -> float:
    """The type of an argument above 0 and at most 1."""
    value: float = real_number(above=0)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1, got '{text}'")
    return value


def _bump(shape: tuple[int, int]) -> Array:
    """From 0 at the border to 1 in the centre, as the noise of parallel imaging rises far from the coils."""
    return np.asarray(np.multiply.outer(*(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in shape)))
